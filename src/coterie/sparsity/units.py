"""What has a sparsity of its own: whole layers, or their attention and feed-forward blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from coterie.game.coalitions import Vector
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.stack import Players, Stack
from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.levels import LayerLevel, Level, Pattern
from coterie.sparsity.linears import linear_maps
from coterie.sparsity.search import Levels
from coterie.sparsity.variant_game import CUT, Choices

GRID = 40
"""Steps between sparsity 0 and 1 where candidates are judged: 0.025 each."""

GONE = -1
"""The level of a unit whose layer is cut."""


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a model, in the order of the players of its game.

    Attributes:
        names: Of each layer's units, the part of the layer they are; empty where layers are units.
        weights: Weights of the linear maps of each unit, ``(n_units,)``.
        steps: Steps between sparsity 0 and 1: `GRID`, or M of a pattern N:M.
        is_pattern: Whether a level is a pattern, so that ``steps`` weights form a group.
    """

    names: tuple[tuple[str, ...], ...]
    weights: Vector
    steps: int = GRID
    is_pattern: bool = False

    @property
    def per_layer(self) -> int:
        """Units of a layer: 1 or 2."""
        return len(self.names[0]) or 1

    def level(self, sparsity: float) -> Level:
        """A sparsity as pruners take it; of a pattern, the nearest one."""
        if self.is_pattern:
            return Pattern(self.steps - round(sparsity * self.steps), self.steps)
        return float(sparsity)

    def layer_level(self, layer: int, sparsities: Sequence[float]) -> LayerLevel:
        """What one layer's units ask of its maps."""
        levels = [self.level(one) for one in sparsities]
        names = self.names[layer]
        return dict(zip(names, levels, strict=True)) if names else levels[0]

    def allocation(self, sparsity: Vector) -> list[LayerLevel]:
        """Sparsities ``(n_units,)`` as an allocation, layer by layer."""
        rows = sparsity.reshape(-1, self.per_layer).tolist()
        return [self.layer_level(layer, row) for layer, row in enumerate(rows)]

    def choices(self, levels: Levels) -> Choices:
        """Levels ``(n, n_units)`` as choices ``(n, n_layers)``: what a layer's units have, in one.

        Where a unit is `GONE`, its layer is cut.
        """
        by_layer = levels.reshape(len(levels), -1, self.per_layer)
        # The levels of a layer's units are the digits of one number in base steps + 1.
        digits = (self.steps + 1) ** np.arange(self.per_layer)
        return np.where((by_layer == GONE).any(axis=2), CUT, by_layer @ digits)

    def of_choice(self, layer: int, choice: int) -> LayerLevel:
        """The level of a layer that a choice stands for."""
        digits = [
            choice // (self.steps + 1) ** at % (self.steps + 1) for at in range(self.per_layer)
        ]
        return self.layer_level(layer, [digit / self.steps for digit in digits])


def find_units(
    model: PreTrainedModel, stack: Stack, players: Players = "layer", group: int | None = None
) -> Units:
    """The units of a model and how many weights each has.

    Args:
        model: With or without weights.
        stack: Its layers, whole ones.
        players: ``"layer"``, or ``"sublayer"`` for attention and feed-forward blocks.
        group: M of an N:M pattern; None where any share of zeros can be had.

    Raises:
        SparsityError: another kind of players.
        ModelError: the layers are not built of such blocks, or hold no linear map.
    """
    if players not in ("layer", "sublayer"):
        raise SparsityError(
            f"--players {players} cannot be sparsified by themselves: give layer or sublayer"
        )
    names = _block_names(model, stack) if players == "sublayer" else ((),) * stack.n_players
    weights = []
    for layer, blocks in enumerate(names):
        maps = linear_maps(stack, layer)
        # Weights outside both blocks would be in no unit, and the total would be wrong.
        if blocks and (outside := [found.name for found in maps if found.block not in blocks]):
            raise SparsityError(
                f"layer {stack.path}.{layer} has linear maps outside its attention and feed-forward"
                f" blocks ({', '.join(outside[:3])}): give --players layer"
            )
        # Without blocks, the whole layer is the one unit.
        for block in blocks or (None,):
            mine = [found for found in maps if block is None or found.block == block]
            weights.append(float(sum(found.n_weights for found in mine)))
    return Units(names, np.array(weights), group or GRID, group is not None)


def _block_names(model: PreTrainedModel, stack: Stack) -> tuple[tuple[str, ...], ...]:
    """What attention and feed-forward block are called in each layer."""
    blocks = find_players(model, "sublayer").layers
    called = []
    for layer, module in enumerate(stack.layers):
        children = {id(child): name for name, child in module.named_children()}
        # The players are listed as attention and feed-forward block of layer 0, 1, 2 …
        called.append(tuple(children[id(block)] for block in blocks[2 * layer : 2 * layer + 2]))
    return tuple(called)
