"""A surrogate that is its own explanation: its outputs are contributions that add up to the value.

f(S) = f₀ + Σ_{i ∈ S} φ_i(|S|), fitted in Shapley's kernel. Alkhatib et al. 2025 (arXiv:2505.04775,
ViaSHAP) train a predictor whose outputs, one per player, sum to its prediction, under the loss that
makes them Shapley values. Here the game is one and the outputs may vary with the coalition's size,
linearly: contributions near the top differ from those lower down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector, sizes
from coterie.game.surrogates import switched_marginals

PENALTY = 1e-3  # of the size's effect, relative to the mean square of the design


@dataclass(frozen=True, eq=False)
class ExplainedPredictor:
    """Contributions at the middle size, and how they change with each player kept."""

    constant: float
    middle: float
    at_middle: Vector
    per_player: Vector

    def contributions(self, size: float) -> Vector:
        """What each player adds to a coalition of this size, ``(n_players,)``."""
        return self.at_middle + (size - self.middle) * self.per_player

    def predict(self, coalitions: Coalitions) -> Vector:
        """Predicted values: the constant plus the contributions of those who are in."""
        inside = coalitions.astype(np.float64)
        away = sizes(coalitions) - self.middle
        return self.constant + inside @ self.at_middle + away * (inside @ self.per_player)

    def marginals(self, base: Coalitions) -> Matrix:
        """f(m ∪ i) − f(m \\ i) for every base coalition m and player i, ``(n_base, n_players)``."""
        return switched_marginals(self.predict, base)


@dataclass(frozen=True)
class ShapleyRegression:
    """Weighted least squares in Shapley's kernel, over the sizes that were evaluated.

    Each size carries the kernel's mass whatever the number of its coalitions. Fitted to strata near
    the top, the contributions are those of the best additive game up there, not Shapley values of
    the whole game: that takes coalitions of every size.
    """

    @property
    def name(self) -> str:
        """What a report calls it."""
        return "Shapley regression"

    def fit(
        self, coalitions: Coalitions, targets: Vector, *, rng: np.random.Generator
    ) -> ExplainedPredictor:
        """Fit values ``(n_coalitions,)`` in closed form; ``rng`` is not used.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: Their values, ``(n_coalitions,)``.
            rng: Starts the fit; a fit in closed form does not use it.
        """
        n_players = coalitions.shape[1]
        held = sizes(coalitions)
        counts = np.bincount(held, minlength=n_players + 1)
        inner = np.clip(held, 1, n_players - 1)  # the ends have infinite weight: take the largest
        weights = 1 / (inner * (n_players - inner) * counts[held])
        weights /= weights.sum()
        middle = float(weights @ held)
        inside = coalitions.astype(np.float64)
        # Contributions at the middle size, and their slopes by size.
        design = np.concatenate([inside, (held - middle)[:, None] * inside], axis=1)
        centre, mean = weights @ design, float(weights @ targets)
        design, wanted = design - centre, targets - mean
        normal = (design.T * weights) @ design
        scale = float(np.trace(normal)) / len(normal)
        ridge = np.full(len(normal), 1e-9 * scale)
        # Some penalty on how contributions vary by size: the data know less of it.
        ridge[n_players:] = PENALTY * scale
        normal[np.diag_indices_from(normal)] += ridge
        slopes = linalg.solve(normal, (design.T * weights) @ wanted, assume_a="pos")
        return ExplainedPredictor(
            mean - float(centre @ slopes), middle, slopes[:n_players], slopes[n_players:]
        )

    def refit(
        self,
        coalitions: Coalitions,
        targets: Matrix,
        rows: Sequence[Indices],
        *,
        rngs: Sequence[np.random.Generator],
    ) -> list[ExplainedPredictor]:
        """Fit one predictor per replicate; see `Surrogate.refit`.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: ``(n_replicates, n_coalitions)``: each replicate may see other values.
            rows: Coalitions that each replicate sees, all of one length.
            rngs: One per replicate.
        """
        return [
            self.fit(coalitions[chosen], values[chosen], rng=rng)
            for values, chosen, rng in zip(targets, rows, rngs, strict=True)
        ]
