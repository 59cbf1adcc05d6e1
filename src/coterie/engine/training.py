"""The paper's network trained on a GPU: all replicates at once, an epoch in one launch.

The networks are tiny, so what counts is how often the host asks for something: the steps of an
epoch are recorded once as a CUDA graph and replayed. Starts and orders are drawn on the host, as
`coterie.game.surrogates.training` draws them: the same seed gives the same descent but for
rounding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from coterie.game.surrogates.training import Lessons, Trainer, Weights, trained


def trainer_on(device: torch.device) -> Trainer:
    """Where to train beside a model on this device: there if it is a CUDA GPU, else in numpy.

    On a CPU numpy's products of small matrices are the faster ones.
    """
    return trained if device.type != "cuda" else lambda lessons: trained_with_torch(lessons, device)


def trained_with_torch(lessons: Lessons, device: torch.device) -> Weights:
    """Train all replicates together on a device.

    Args:
        lessons: What is trained on what.
        device: A CUDA GPU, or any other device of torch, without a graph there.
    """
    begun = lessons.start()
    descent = _Descent(lessons, begun, device)
    with torch.no_grad():
        step = descent.recorded() if device.type == "cuda" else descent.epoch
        for epoch, (rows, targets) in enumerate(lessons.orders()):
            descent.rate.fill_(lessons.schedule.rate_in(epoch))
            descent.rows.copy_(torch.from_numpy(rows))
            descent.targets.copy_(torch.from_numpy(targets))
            step()
    return Weights.over(descent.flat.cpu().numpy(), lessons.n_players)


class _Descent:
    """The state of a descent on a device, and one epoch of it."""

    def __init__(self, lessons: Lessons, begun: Weights, device: torch.device) -> None:
        n_replicates, n_hidden, wide = begun.inner.shape
        self.inputs = torch.from_numpy(lessons.inputs).to(device)
        # Copies: every epoch is written over them, and on a CPU torch would write into the lessons.
        self.rows = torch.from_numpy(lessons.rows).to(device, copy=True)
        self.targets = torch.from_numpy(lessons.targets).to(device, copy=True)
        self.steps, self.momentum = lessons.steps(), lessons.schedule.momentum
        self.rate = torch.zeros((), device=device)
        self.flat = torch.from_numpy(begun.flat).to(device, copy=True)
        self.speed, self.slope = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        # Views of the flat arrays: a step of the descent is two operations for all layers.
        shapes = (n_replicates, n_hidden, wide), (n_replicates, n_hidden), (n_replicates, 1)
        sizes = [n_hidden * wide, n_hidden, 1]
        self.weights, self.slopes = (
            [part.view(shape) for part, shape in zip(whole.split(sizes, 1), shapes, strict=True)]
            for whole in (self.flat, self.slope)
        )

    def epoch(self) -> None:
        """One pass over the coalitions, in the order that lies in ``rows``."""
        seen = self.inputs[self.rows]
        for step in self.steps:
            self._write_slopes(seen[:, step], self.targets[:, step])
            self.speed.mul_(self.momentum).add_(self.slope)
            self.flat.addcmul_(self.speed, self.rate, value=-1)

    def _write_slopes(self, inputs: Tensor, targets: Tensor) -> None:
        """The gradient, as `coterie.game.surrogates.training.write_slopes` writes it."""
        inner, outer, outer_bias = self.weights
        before = torch.bmm(inputs, inner.transpose(1, 2))
        bend = before.clamp(max=0).exp_()
        hidden = before.clamp_(min=0).add_(bend)
        offset = outer_bias - outer.sum(1, keepdim=True)
        output = torch.sigmoid(torch.bmm(hidden, outer[:, :, None])[..., 0] + offset)
        error = (output - targets) * output * (1 - output) * (2 / targets.shape[1])
        total = error.sum(1, keepdim=True)
        torch.sub(torch.bmm(error[:, None], hidden)[:, 0], total, out=self.slopes[1])
        self.slopes[2].copy_(total)
        bend.mul_(error[:, :, None])
        torch.mul(torch.bmm(bend.transpose(1, 2), inputs), outer[:, :, None], out=self.slopes[0])

    def recorded(self) -> Callable[[], None]:
        """An epoch as a CUDA graph, and the function that replays it."""
        kept = self.flat.clone()
        # Work before a recording must be done on another stream once, so that libraries are ready.
        aside = torch.cuda.Stream(self.flat.device)
        aside.wait_stream(torch.cuda.current_stream(self.flat.device))
        with torch.cuda.stream(aside):
            self.epoch()
        torch.cuda.current_stream(self.flat.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.flat.device), torch.cuda.graph(graph):
            self.epoch()
        self.flat.copy_(kept)
        self.speed.zero_()
        return graph.replay
