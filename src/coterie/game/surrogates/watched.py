"""A surrogate that reports how many fits it has made, for whoever waits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector
from coterie.game.surrogates import Predictor, Surrogate

TOGETHER = 12
"""Replicates fitted between two reports; grouping changes nothing, each has its own generator."""


@dataclass
class Watched:
    """Any surrogate, fitting as it does, with the number of fits reported as it grows."""

    inner: Surrogate
    tell: Callable[[int], None]
    _fits: int = field(default=0, repr=False)

    @property
    def name(self) -> str:
        """The inner surrogate's name."""
        return self.inner.name

    def fit(
        self, coalitions: Coalitions, targets: Vector, *, rng: np.random.Generator
    ) -> Predictor:
        """Fit one predictor; see `Surrogate.fit`.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: Their values, ``(n_coalitions,)``.
            rng: Starts the fit; a fit in closed form does not use it.
        """
        fitted = self.inner.fit(coalitions, targets, rng=rng)
        self._count(1)
        return fitted

    def refit(
        self,
        coalitions: Coalitions,
        targets: Matrix,
        rows: Sequence[Indices],
        *,
        rngs: Sequence[np.random.Generator],
    ) -> list[Predictor]:
        """Fit one predictor per replicate; see `Surrogate.refit`.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: ``(n_replicates, n_coalitions)``: each replicate may see other values.
            rows: Coalitions that each replicate sees, all of one length.
            rngs: One per replicate.
        """
        fitted: list[Predictor] = []
        # In groups, so that whoever waits sees the count move.
        for start in range(0, len(rows), TOGETHER):
            some = slice(start, start + TOGETHER)
            fitted += self.inner.refit(coalitions, targets[some], rows[some], rngs=rngs[some])
            self._count(len(rows[some]))
        return fitted

    def _count(self, more: int) -> None:
        # Fits of all stages together: the display knows their total.
        self._fits += more
        self.tell(self._fits)
