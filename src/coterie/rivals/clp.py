"""CLP: a differentiable gate finds the contiguous run of layers to remove (arXiv:2510.23652).

Every layer's contribution to the state is multiplied by a gate that is near zero inside a window
and near one outside. The window's start is a real number and is moved down the gradient of the
loss, while the gate's walls grow steeper; at the end it is rounded. The published form of the gate
was not at hand: here it is one less the product of two sigmoids, a window of the length asked for.
The published tuning of the two layers beside the cut is left out, as it is of all methods here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._pytree import tree_flatten, tree_unflatten

from coterie.game.coalitions import Coalitions
from coterie.models.loaded.routing import Carried, Forward, carried_leaves, patched
from coterie.rivals._ranking import by_window, starts
from coterie.rivals._states import batches
from coterie.rivals.interface import Chosen, Meter, Task

STEPS = 48
TEXTS_AT_ONCE = 2
LEARNING_RATE = 0.25  # layers per step, roughly: Adam moves by its rate
SOFT, STEEP = 1.0, 8.0
"""Steepness of the gate's walls in the first and in the last step, per layer."""


def choose(task: Task, meter: Meter) -> Chosen:
    """Learn one window for each size."""

    def nearest(candidates: Coalitions, removal: int) -> int:
        places = starts(candidates)
        start = learnt_start(task, meter, removal, places)
        return int(np.abs(np.array(places) - start).argmin())

    return by_window(task, meter, nearest)


def gate(start: Tensor, length: int, n_players: int, steepness: float) -> Tensor:
    """Gates ``(n_players,)``: near 0 on ``length`` layers from ``start`` on, near 1 elsewhere.

    Args:
        start: Where the window begins, a scalar; gradients flow through it.
        length: Layers of the window.
        n_players: Layers of the model.
        steepness: How steep the walls of the gate are, per layer.
    """
    place = torch.arange(n_players, device=start.device)
    left = torch.sigmoid(steepness * (place - start + 0.5))
    right = torch.sigmoid(steepness * (start + length - 0.5 - place))
    return 1 - left * right


def learnt_start(task: Task, meter: Meter, length: int, places: list[int]) -> float:
    """Where gradient descent on the loss leaves a window that begins in the middle of its range.

    Args:
        task: What every rival is given.
        meter: Counts what the method runs.
        length: Layers of the window.
        places: Layers at which it may begin.
    """
    device = next(task.stack.layers[0].parameters()).device
    low, high = float(min(places)), float(max(places))
    start = torch.tensor((low + high) / 2, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([start], lr=LEARNING_RATE)
    texts = islice(cycle(batches(task, TEXTS_AT_ONCE)), STEPS)
    for step, tokens in enumerate(texts):
        # Geometric from SOFT to STEEP: wide walls find the region, steep ones the layer.
        steepness = SOFT * (STEEP / SOFT) ** (step / (STEPS - 1))
        gates = gate(start, length, task.n_players, steepness)
        with gated(task, gates), torch.enable_grad():
            logits = task.model(input_ids=tokens, use_cache=False).logits[:, :-1]
            loss = cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
            # Only the start is differentiated by: no weight ever holds a gradient.
            (start.grad,) = torch.autograd.grad(loss, [start])
        optimizer.step()
        with torch.no_grad():
            start.clamp_(low, high)
        work = task.n_players * tokens.numel()
        predicted = len(tokens) * (task.length - 1)
        meter.ran(layer_tokens=work, head_tokens=predicted, backward=work)
    return start.item()


@contextmanager
def gated(task: Task, gates: Tensor) -> Iterator[None]:
    """Inside, each layer adds only a share of what it would add to the state."""
    carried = carried_leaves(task.model, task.stack)
    layers = enumerate(task.stack.layers)
    with patched({x: _gated(carried[i], x.forward, gates[i]) for i, x in layers}):
        yield


def _gated(carried: Carried, forward: Forward, share: Tensor) -> Forward:
    def run(*args: object, **kwargs: object) -> object:
        leaves, spec = tree_flatten(forward(*args, **kwargs))
        entering = tree_flatten(carried.through(args, kwargs))[0][0]
        leaves[0] = entering + share.to(leaves[0].dtype) * (leaves[0] - entering)
        return tree_unflatten(leaves, spec)

    return run
