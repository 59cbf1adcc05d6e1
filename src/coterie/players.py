"""The kinds of player, and what players are called."""

from collections.abc import Sequence
from typing import Literal

Kind = Literal["layer", "attention", "mlp", "sublayer"]
"""What a player is: a whole layer, its attention block, its feed-forward block, or either."""


BLOCKS: dict[Kind, tuple[str, ...]] = {
    "layer": (),
    "attention": ("attention",),
    "mlp": ("mlp",),
    "sublayer": ("attention", "mlp"),
}
"""The blocks of a layer that are players of their own, in the order they are numbered."""

LAYERS_THEN_BLOCKS = "layer+block"
"""What is asked for where layers are searched first, then their blocks within the same cost."""


def of_blocks(players: Sequence[int], kind: Kind) -> tuple[int, ...]:
    """The blocks of some layers, by their numbers among the players of a kind.

    >>> of_blocks([0, 3], "sublayer")
    (0, 1, 6, 7)
    """
    width = len(BLOCKS[kind]) or 1
    return tuple(layer * width + place for layer in players for place in range(width))


_UNITS = {"layer": "layer", "attention": "attention block", "mlp": "feed-forward block"}


def unit(kind: str, *, plural: bool = False) -> str:
    """What a player of this kind is called: layer, attention block, feed-forward block, block."""
    return _UNITS.get(kind, "block") + ("s" if plural else "")


def label(kind: Kind, player: int) -> str:
    """A player's name: `3` for a layer, `3.attention` and `3.mlp` for its blocks.

    >>> label("layer", 3), label("sublayer", 6), label("sublayer", 7)
    ('3', '3.attention', '3.mlp')
    """
    if not (blocks := BLOCKS[kind]):
        return str(player)
    return f"{player // len(blocks)}.{blocks[player % len(blocks)]}"


def labels(kind: str, n_players: int) -> list[str]:
    """The names of all players of a kind, in order.

    >>> labels("sublayer", 3)
    ['0.attention', '0.mlp', '1.attention']
    """
    known: Kind = next((one for one in BLOCKS if one == kind), "layer")
    return [label(known, player) for player in range(n_players)]


def named(label: str) -> str:
    """A player in a sentence: `layer 3`, but `3.attention` alone."""
    return label if "." in label else f"layer {label}"


def players(labels: Sequence[str]) -> str:
    """Players by name, runs of layers joined.

    >>> players(["0", "1", "2", "7"])
    '0-2, 7'
    >>> players(["0.attention", "1.attention", "5.mlp"])
    '0-1.attention, 5.mlp'
    """
    parts = [label.partition(".") for label in labels]
    named_runs = []
    for block in dict.fromkeys(block for _, _, block in parts):
        runs = _runs([int(layer) for layer, _, of in parts if of == block])
        named_runs += [f"{run}.{block}" if block else run for run in runs]
    return ", ".join(named_runs) or "none"


def _runs(numbers: Sequence[int]) -> list[str]:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs]
