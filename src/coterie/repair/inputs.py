"""What enters the maps that are refitted, and how much every token counts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from coterie.repair.parts import Writer, unit_rms

Seen = dict[Writer, tuple[Tensor, Tensor]]
"""What each map was given and what it gave, in the last run."""

Columns = Callable[[Writer, Tensor, Tensor, Tensor], Tensor]
"""From a map, its inputs, its outputs and the states after it to the columns of least squares."""


@contextmanager
def watched(writers: Sequence[Writer]) -> Iterator[Seen]:
    """Inside, what these maps are given and give is noted."""
    seen: Seen = {}

    def watch(writer: Writer) -> Callable[[object, tuple[Tensor, ...], Tensor], None]:
        def note(_: object, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen[writer] = (args[0].detach(), output.detach())

        return note

    handles = [writer.module.register_forward_hook(watch(writer)) for writer in writers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def input_columns(writer: Writer, given: Tensor, output: Tensor, states: Tensor) -> Tensor:
    """The inputs x of a map as columns ``(n, length, columns)``, a constant one for its bias.

    Behind a root-mean-square norm each token is divided by the size of the output, as the norm
    divides it now.

    Args:
        writer: The map.
        given: Its inputs in a run, ``(.., inputs)``.
        output: What it gave, ``(.., width)``.
        states: States after it, ``(n, length, width)``.
    """
    x = given.reshape(*states.shape[:-1], -1).float()
    if writer.module.bias is not None:
        x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
    return x if writer.norm is None else x * _divided_by(output.view_as(states))


def output_columns(writer: Writer, given: Tensor, output: Tensor, states: Tensor) -> Tensor:
    """The outputs of a map as columns ``(n, length, width)``, as `input_columns` has its inputs.

    Args:
        writer: The map.
        given: Its inputs in a run; not needed here.
        output: What it gave, ``(.., width)``.
        states: States after it, ``(n, length, width)``.
    """
    z = output.view_as(states)
    return z.float() if writer.norm is None else z.float() * _divided_by(z)


def _divided_by(output: Tensor) -> Tensor:
    return output.float().square().mean(dim=-1, keepdim=True).clamp_min(1e-12).rsqrt()


def size_of_change(writer: Writer) -> Tensor:
    """What a change of a map's output is multiplied by before it adds to the state, by channel.

    The gains of a root-mean-square norm are what it makes of a vector of ones.
    """
    width = writer.width
    ones = torch.ones(width, dtype=writer.module.weight.dtype, device=writer.module.weight.device)
    gains = ones if writer.norm is None else writer.norm(ones)
    gains = gains.detach().float()
    # A channel whose gain is next to nothing is left alone: it would take a huge change.
    small = gains.abs() < 1e-3 * gains.abs().max()
    return torch.where(small, torch.inf, gains * writer.factor)


def token_weights(wanted: Tensor) -> Tensor:
    """ω, ``(n, length)``: one over the root mean square of the state that is wanted at a token.

    A few tokens have states a thousand times larger (arXiv:2402.17762); counted as they are, they
    would decide alone. Divided by the mean square, as the norm of the next layer divides, the large
    ones count too little: 0.14 nats more were lost on a gap of eleven layers (docs/log.md).
    """
    return wanted.float().square().mean(dim=-1).clamp_min(1e-12).rsqrt()


def normed_direction(output: Tensor) -> Tensor:
    """What a root-mean-square norm multiplies its gains with."""
    return unit_rms(output.float())


@torch.no_grad()
def scaled_norm(norm: nn.Module, factor: float) -> dict[str, Tensor]:
    """The parameters of a norm whose output is to be so many times larger.

    Some norms hold their gains less one: the gains are what one makes of a vector of ones.
    """
    weight, bias = norm.get_parameter("weight"), getattr(norm, "bias", None)
    if isinstance(bias, Tensor):
        return {"weight": weight * factor, "bias": bias * factor}
    gains = norm(torch.ones_like(weight))
    return {"weight": weight + (factor - 1) * gains}
