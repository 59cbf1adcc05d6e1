"""The gaps of a cut: runs of layers that went, and the kept layer before each."""

from collections.abc import Sequence
from dataclasses import dataclass

from coterie.errors import CutError


@dataclass(frozen=True)
class Turn:
    """A kept layer, and what follows it.

    Attributes:
        layer: Its number in the full model.
        following: The next kept layer; the number of layers after the last one.
        behind: Layers are missing somewhere before it.
    """

    layer: int
    following: int
    behind: bool

    @property
    def gap(self) -> int:
        """Layers that went between it and the next kept one."""
        return self.following - self.layer - 1


def turns(kept: Sequence[int], n_layers: int) -> tuple[Turn, ...]:
    """The kept layers in order, each with what follows it.

    Raises:
        CutError: A number out of range or named twice, or no layer at all.
    """
    players = tuple(sorted(kept))
    if not players or players[0] < 0 or players[-1] >= n_layers or len(set(players)) < len(players):
        raise CutError(
            f"kept layers {list(kept)} are not some of 0 to {n_layers - 1}, each named once: name"
            " at least one layer that stays"
        )
    followings = (*players[1:], n_layers)
    return tuple(
        Turn(layer, following, layer > place)
        for place, (layer, following) in enumerate(zip(players, followings, strict=True))
    )


def gaps_text(kept: Sequence[int], n_layers: int) -> str:
    """The gaps in words, such as ``12–14, 17``."""
    gone = [layer for layer in range(n_layers) if layer not in set(kept)]
    runs: list[list[int]] = []
    for layer in gone:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in runs)
