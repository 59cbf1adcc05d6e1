"""From a target (parameters, bytes, speed) to the sizes to search, and what meets it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coterie.errors import CutError
from coterie.game.coalitions import Coalitions, Vector
from coterie.models.loaded.blocks import block_parameters
from coterie.players import unit
from coterie.report.schema.explorer import PlayerSizesPart
from coterie.report.schema.search import TargetPart
from coterie.verbs.search.player_times import SEQUENCES, player_seconds
from coterie.verbs.shared.workspace import Workspace

_WORDS = {"target_params": "parameters", "target_bytes": "bytes", "target_speedup": "seconds"}


@dataclass(frozen=True, eq=False)
class Target:
    """What each player costs, what the rest of the model costs, and how much may remain."""

    name: str
    asked: float
    players: Vector
    """Cost of each player, ``(n_players,)``: parameters, bytes or seconds of a pass."""
    rest: float
    most: float
    """Cost that the cut model may have."""

    def cost(self, coalitions: Coalitions) -> Vector:
        """Cost of each cut model, ``(n_coalitions,)``."""
        return self.rest + coalitions @ self.players

    def allowed(self, coalitions: Coalitions) -> NDArray[np.bool_]:
        """Which coalitions meet the target."""
        # A rounding error must not forbid the coalition that meets the target exactly.
        return self.cost(coalitions) <= self.most * (1 + 1e-9)

    def keeps(self, locked: tuple[int, ...], kind: str) -> list[int]:
        """Sizes worth searching, largest first.

        From the fewest players whose absence can meet the target to the fewest that meet it
        whichever they are; one size where all players cost the same.

        Raises:
            CutError: the target is met already, or not even by the smallest model.
        """
        n_players = len(self.players)
        free = np.setdiff1d(np.arange(n_players), locked)
        # What has to go at least.
        spare = self.rest + float(self.players.sum()) - self.most * (1 + 1e-9)
        option = f"--{self.name.replace('_', '-')} {self.asked:g}"
        if spare <= 0:
            raise CutError(f"{option} is met by the whole model: there is nothing to cut")
        costs = np.sort(self.players[free])
        # Even the costliest players together must free enough; one player has to remain.
        costliest = np.cumsum(costs[::-1])[: len(free) - 1]
        if not len(costliest) or costliest[-1] < spare:
            least = self.rest + float(self.players.sum() - costliest[-1:].sum())
            raise CutError(
                f"{option} cannot be reached: with one {unit(kind)} left to choose, "
                f"{least:,.4g} {_WORDS[self.name]} remain, and {self.most:,.4g} are allowed"
            )
        # Removing the cheapest frees least: that many surely suffice, whichever they are.
        cheapest = np.cumsum(costs)[: len(free) - 1]
        fewest = int((costliest < spare).sum()) + 1
        surely = min(int((cheapest < spare).sum()) + 1, len(free) - 1)
        return [n_players - removed for removed in range(fewest, surely + 1)]

    def part(self, coalition: NDArray[np.bool_]) -> TargetPart:
        """The target as the record names it."""
        return TargetPart(
            name=self.name,
            asked=self.asked,
            unit=_WORDS[self.name],
            before=float(self.rest + self.players.sum()),
            most=self.most,
            after=float(self.cost(coalition[None])[0]),
        )


def target_of(workspace: Workspace) -> Target | None:
    """The target that was asked, with what every player costs; None where none was."""
    name = workspace.request.target
    # Most runs name a size and no target.
    if name is None:
        return None
    asked = float(getattr(workspace.request, name))
    if name == "target_speedup":
        players, rest = player_seconds(workspace, SEQUENCES)
        return Target(name, asked, players, rest, (rest + float(players.sum())) / asked)
    entries = workspace.prepared.source.entries
    values = sum(entry.n_values for entry in entries)
    scale = 1.0
    if name == "target_bytes":  # the share of a player in the bytes is taken to be that in values
        scale = sum(entry.n_bytes for entry in entries) / values
    players = scale * np.array(
        [sum(p.numel() for p in layer.parameters()) for layer in workspace.stack.layers],
        dtype=float,
    )
    whole = scale * values
    return Target(name, asked, players, whole - float(players.sum()), _most(asked, whole))


def player_sizes(workspace: Workspace) -> PlayerSizesPart:
    """Parameters of each player, and its share of the bytes of the source's files."""
    entries = workspace.prepared.source.entries
    per_value = sum(entry.n_bytes for entry in entries) / sum(entry.n_values for entry in entries)
    # On a model that is streamed the layers have their shapes, and no weights.
    parameters = [sum(p.numel() for p in one.parameters()) for one in workspace.stack.layers]
    return PlayerSizesPart(parameters, [round(per_value * one) for one in parameters])


def block_costs(layers: Workspace, blocks: Workspace, target: Target | None) -> Vector:
    """What each block costs, ``(n_blocks,)``: the two of a layer together what the layer does.

    Args:
        layers: The opened model, its layers the players.
        blocks: The same model, its blocks the players.
        target: Says what costs are; parameters where there is none.
    """
    parameters = block_parameters(layers.stack, blocks.stack)
    if target is None:
        return parameters
    own = parameters
    if target.name == "target_speedup":
        own, _ = player_seconds(blocks, SEQUENCES)
    # Layers and blocks are timed apart: of a layer's seconds each block has its share.
    pairs = np.maximum(own.reshape(-1, 2), 1e-12)
    return (pairs / pairs.sum(axis=1, keepdims=True) * target.players[:, None]).reshape(-1)


def _most(asked: float, whole: float) -> float:
    return asked * whole if asked < 1 else asked
