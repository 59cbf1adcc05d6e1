"""Many members of one surrogate: their mean predicts, their spread says how far to trust it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector
from coterie.game.surrogates import Predictor, Surrogate


@dataclass(frozen=True, eq=False)
class EnsemblePredictor:
    """The mean of some predictors, and their standard deviation."""

    members: Sequence[Predictor]

    def predict(self, coalitions: Coalitions) -> Vector:
        """Mean prediction, ``(n_coalitions,)``."""
        # Averages of predictions, not of weights: members need not be of one form.
        return np.mean([member.predict(coalitions) for member in self.members], axis=0)

    def marginals(self, base: Coalitions) -> Matrix:
        """f(m ∪ i) − f(m \\ i) for every base coalition m and player i, ``(n_base, n_players)``."""
        return np.mean([member.marginals(base) for member in self.members], axis=0)

    def deviation(self, coalitions: Coalitions) -> Vector:
        """Standard deviation between members, ``(n_coalitions,)``; what all miss is not in it."""
        return np.std([member.predict(coalitions) for member in self.members], axis=0, ddof=1)


@dataclass(frozen=True)
class Ensemble:
    """Fit members that differ by random start and by a bootstrap of the coalitions (Breiman 1996).

    A network of the paper's kind depends on its random start more than on the coalitions drawn: the
    mean of ten keeps the same layers from seed to seed where single ones do not.
    """

    surrogate: Surrogate
    members: int = 10

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"{self.members} × {self.surrogate.name}"

    def fit(
        self, coalitions: Coalitions, targets: Vector, *, rng: np.random.Generator
    ) -> EnsemblePredictor:
        """Fit all members to resamples of the values ``(n_coalitions,)``.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: Their values, ``(n_coalitions,)``.
            rng: Starts the fit; a fit in closed form does not use it.
        """
        return self.refit(coalitions, targets[None], [np.arange(len(targets))], rngs=[rng])[0]

    def refit(
        self,
        coalitions: Coalitions,
        targets: Matrix,
        rows: Sequence[Indices],
        *,
        rngs: Sequence[np.random.Generator],
    ) -> list[EnsemblePredictor]:
        """Fit one ensemble per replicate, all members of all of them together.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: ``(n_replicates, n_coalitions)``: each replicate may see other values.
            rows: Coalitions that each replicate sees, all of one length.
            rngs: One per replicate.
        """
        # Members see bootstraps of what their own replicate sees, no more.
        resampled = [
            chosen[rng.integers(len(chosen), size=len(chosen))]
            for chosen, rng in zip(rows, rngs, strict=True)
            for _ in range(self.members)
        ]
        fitted = self.surrogate.refit(
            coalitions,
            np.repeat(targets, self.members, axis=0),
            resampled,
            rngs=[child for rng in rngs for child in rng.spawn(self.members)],
        )
        # Members of one replicate lie side by side.
        starts = range(0, len(fitted), self.members)
        return [EnsemblePredictor(fitted[start : start + self.members]) for start in starts]
