"""The gaps of a cut: what went, the kept layer before each, and what a repair gave back there."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from coterie.errors import CutError
from coterie.texts.sets import Tokens

if TYPE_CHECKING:
    from coterie.repair.changes import NewWeights
    from coterie.repair.repairable import Repairable


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


@dataclass(frozen=True)
class GapGain:
    """One gap, and the loss once everything up to the next gap is repaired.

    Attributes:
        gone: The layers that went there.
        loss: Nats per token, with whatever stands behind the next gap as it was cut.
    """

    gone: tuple[int, ...]
    loss: float


def losses_by_gap(
    whole: "Repairable", kept: Sequence[int], tokens: Tokens, weights: "NewWeights"
) -> tuple[float, tuple[GapGain, ...]]:
    """The loss as cut, and after every gap more whose surroundings are repaired.

    A repair refits a kept layer on what the repaired layers before it give, so gaps are told from
    first to last: what one of them gives back rests on those before it.

    Args:
        whole: The full model; it is left as it was.
        kept: The layers that stay.
        tokens: Texts to measure on, ``(n_sequences, length)``.
        weights: What the repair changed, by names in the full model.
    """
    as_cut = float(whole.losses(kept, tokens, {}).mean())
    n_layers, path = whole.stack.n_players, whole.stack.path
    found, gains = _gaps(kept, n_layers), list[GapGain]()
    for gone, following in zip_longest(found, found[1:]):
        # The layer before the next gap belongs to that one, which some repairs refit there; a layer
        # alone between two belongs to the first.
        end = n_layers + 1 if following is None else max(following[0] - 1, gone[-1] + 2)
        some = {name: one for name, one in weights.items() if _layer(name, path, n_layers) < end}
        gains.append(GapGain(gone, float(whole.losses(kept, tokens, some).mean())))
    return as_cut, tuple(gains)


def _gaps(kept: Sequence[int], n_layers: int) -> list[tuple[int, ...]]:
    """The layers of every gap, a leading one included."""
    first = min(kept)
    leading = [tuple(range(first))] if first else []
    behind = [
        tuple(range(one.layer + 1, one.following)) for one in turns(kept, n_layers) if one.gap
    ]
    return leading + behind


def _layer(name: str, path: str, n_layers: int) -> int:
    """The layer that a parameter belongs to; that behind the last one for all others."""
    rest = name.removeprefix(f"{path}.")
    number = rest.split(".", 1)[0]
    return int(number) if rest != name and number.isdigit() else n_layers
