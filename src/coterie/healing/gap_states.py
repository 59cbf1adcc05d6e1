"""The gaps of a cut, and the states of the kept layers after them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from coterie.models.loaded.stack import Stack


def gaps(kept: Sequence[int]) -> tuple[int, ...]:
    """The kept players after a gap: those whose predecessor was cut.

    >>> gaps([0, 1, 4, 5, 7])
    (4, 7)
    """
    return tuple(player for player in kept if player > 0 and player - 1 not in kept)


@contextmanager
def entering(stack: Stack, players: Sequence[int]) -> Iterator[list[Tensor]]:
    """Collect the states that enter some layers, in the order they run."""
    states: list[Tensor] = []

    def see(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        # Some families give the state by name, others as the first positional argument.
        leaves = [kwargs.get("hidden_states"), *tree_leaves((args, kwargs))]
        states.append(next(leaf for leaf in leaves if isinstance(leaf, Tensor)))

    handles: list[RemovableHandle] = [
        stack.layers[player].register_forward_pre_hook(see, with_kwargs=True) for player in players
    ]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared distance of states, as a share of the wanted ones' mean square; 0 if none."""
    parts = [
        (mine.float() - theirs.float()).square().mean() / theirs.float().square().mean()
        for mine, theirs in zip(found, wanted, strict=True)
    ]
    return torch.stack(parts).mean() if parts else torch.zeros(())
