"""A mix of utilities as a game: each in units of what one average player changes, weighed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from coterie.game.coalitions import (
    Block,
    Coalitions,
    Game,
    Indices,
    Matrix,
    Observations,
    Vector,
    observe_all,
)
from coterie.scores.errors import TaskError


@dataclass(frozen=True, eq=False)
class WeightedUtility:
    """One utility of a mix.

    Attributes:
        scores: From what the game observed to a table ``(n_coalitions, n_units)``; higher is
            better. A unit is an item of a task, or a sequence of text.
        clusters: ``(n_units,)``: standard errors treat the units of one cluster as one observation.
        measure: What is scored, in words.
        asked: How a task is scored, as the mix spells it.
    """

    name: str
    weight: float
    game: Game
    scores: Callable[[Observations], Matrix]
    clusters: Indices
    measure: str
    asked: Literal["margin", "acc"] = "margin"


@dataclass(frozen=True, eq=False)
class Scaled:
    """A part, with what it is measured in.

    Attributes:
        full: Score of every unit under the full model, ``(n_units,)``.
        scale: Mean absolute change of the part's value when one single player is skipped.
    """

    part: WeightedUtility
    full: Vector
    scale: float

    @classmethod
    def of(cls, part: WeightedUtility, players: Indices) -> "Scaled":
        """Observe the full model and the skips of single players.

        Raises:
            TaskError: no skip of a single player changes anything, so there is no scale.
        """
        # Row 0 keeps every player; row i + 1 skips the i-th.
        coalitions = np.ones((1 + len(players), part.game.n_players), dtype=bool)
        coalitions[1 + np.arange(len(players)), players] = False
        table = part.scores(observe_all(part.game, coalitions))
        changes = np.abs(table[1:].mean(axis=1) - table[0].mean())
        scale = float(changes.mean())
        if not scale > 0:
            raise TaskError(
                f"'{part.name}' ({part.measure}) is the same whichever single layer is skipped, so "
                "it has no weight: give more --task-items, or measure its margin"
            )
        return cls(part, table[0], scale)


class MixedGame:
    """A weighted sum of utilities as one game, each measured in what one average player changes.

    The loss of a coalition S is Σ_u w_u (v_u(N) − v_u(S)) / s_u, where s_u is the mean of
    |v_u(N) − v_u(N∖{i})| over the players: 0 for the full model, about 1 where an average player
    is gone. Its sequences are the units of all parts, weighted so that their mean is that sum; the
    loss of each stands in ``nll``, the other observations are NaN.

    Attributes:
        not_finite: Likelihoods and losses that were not finite when they were asked for; each
            part reads them as the worst there is.
    """

    def __init__(self, parts: Sequence[Scaled]) -> None:
        self.parts, self.not_finite = list(parts), 0
        counts = [len(scaled.full) for scaled in self.parts]
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        clusters, offset = [], 0
        for scaled in self.parts:
            # Clusters of different parts are different, so their numbers are moved apart.
            clusters.append(scaled.part.clusters + offset)
            offset += int(scaled.part.clusters.max()) + 1
        self.clusters: Indices = np.concatenate(clusters)

    @property
    def n_players(self) -> int:
        """Number of players, the same in every part."""
        return self.parts[0].part.game.n_players

    @property
    def n_sequences(self) -> int:
        """Number of units of all parts."""
        return int(self.starts[-1])

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Yield one block a part, with the seconds it took when it was observed, now or before."""
        total = sum(scaled.part.weight for scaled in self.parts)
        for place, scaled in enumerate(self.parts):
            start, stop = self.starts[place], self.starts[place + 1]
            columns = np.flatnonzero((sequences >= start) & (sequences < stop))
            if not len(columns) or not len(coalitions):
                continue
            # Scores of an item need all its answers, so a part is always observed whole.
            everything = np.arange(scaled.part.game.n_sequences)
            table, seconds = Observations.empty(len(coalitions), len(everything)), 0.0
            for told in scaled.part.game.observe(coalitions, everything):
                table.put(told)
                seconds += told.seconds
            self.not_finite += int((~np.isfinite(table.nll)).sum())
            scores = scaled.part.scores(table)
            # Scaled so that the plain mean over all units is the weighted sum over the parts.
            share = scaled.part.weight / total * self.n_sequences / len(scaled.full)
            loss = share * (scaled.full - scores) / scaled.scale
            seen = np.full((len(coalitions), len(columns)), np.nan)
            units = sequences[columns] - start
            block = Observations(loss[:, units], seen, seen)
            rows = np.arange(len(coalitions))
            yield Block(rows, columns, block, seconds)
