"""A Gaussian process that learns coalition by coalition, without starting over each time."""

import numpy as np
from scipy import linalg

from coterie.game.coalitions import Coalitions, Matrix, Vector
from coterie.game.surrogates.pairwise import pair_features
from coterie.game.surrogates.prior import CONSTANT, JITTER, Prior, prior_of_features, rest_of
from coterie.game.surrogates.process import ProcessPredictor


class GrowingProcess:
    """A process under one prior and in one unit, to which coalitions are added.

    The Cholesky factors of n coalitions become those of n + m by solving for the m alone: n²m
    products instead of n³.

    Args:
        prior: Variances and shapes of the parts.
        n_players: Players of the game.
        mean: What is taken off every target.
        scale: What targets and errors are divided by.

    Examples:
        >>> rows = np.array([[True, False], [False, True], [False, False]])
        >>> process = GrowingProcess(Prior(), 2, mean=0.0, scale=1.0)
        >>> process.add(rows[:2], np.zeros(2))
        >>> process.add(rows[2:], np.zeros(1))
        >>> process.given(np.array([1.0, 2.0, 3.0])).predict(rows).round(1).tolist()
        [1.0, 2.0, 3.0]
    """

    def __init__(self, prior: Prior, n_players: int, *, mean: float, scale: float) -> None:
        self.prior, self.mean, self.scale = prior, mean, scale
        self.coalitions: Coalitions = np.zeros((0, n_players), dtype=bool)
        self._spread = prior_of_features(prior, n_players)
        self._features: Matrix = np.zeros((0, len(self._spread)))
        self._factor: Matrix = np.zeros((0, 0))
        self._rest_factor: Matrix = np.zeros((0, 0))

    def add(self, coalitions: Coalitions, errors: Vector) -> None:
        """Add coalitions.

        Args:
            coalitions: ``(n_coalitions, n_players)``, none of them added before.
            errors: Standard errors of their values, ``(n_coalitions,)``.
        """
        prior, features = self.prior, pair_features(coalitions)
        across, within = (rest_of(prior, coalitions, to) for to in (self.coalitions, coalitions))
        noise = np.diag(np.full(len(coalitions), prior.noise + JITTER))
        self._rest_factor = _extended(self._rest_factor, across, within + noise)
        # Cuts, pairs and the level come on top of the rest, and the errors known from elsewhere.
        weighted = features * self._spread
        across = across + CONSTANT + weighted @ self._features.T
        within = within + CONSTANT + weighted @ features.T
        noise[np.diag_indices_from(noise)] += (errors / self.scale) ** 2
        self._factor = _extended(self._factor, across, within + noise)
        self.coalitions = np.concatenate([self.coalitions, coalitions])
        self._features = np.concatenate([self._features, features])

    def given(self, targets: Vector) -> ProcessPredictor:
        """The process given the values of all coalitions added, ``(n_coalitions,)``."""
        residuals = (targets - self.mean) / self.scale
        return ProcessPredictor(
            self.prior,
            self.coalitions,
            self._features,
            factor=self._factor,
            weights=linalg.cho_solve((self._factor, True), residuals, check_finite=False),
            residuals=residuals,
            mean=self.mean,
            scale=self.scale,
            rest_factor=self._rest_factor,
        )


def _extended(factor: Matrix, across: Matrix, within: Matrix) -> Matrix:
    """The Cholesky factor of a covariance that has grown by some rows.

    Args:
        factor: Of the covariance before, ``(n, n)``.
        across: Covariances of the new with the old, ``(m, n)``.
        within: Covariances of the new, ``(m, m)``.
    """
    n, m = len(factor), len(within)
    grown = np.zeros((n + m, n + m))
    if n:
        grown[:n, :n] = factor
        grown[n:, :n] = linalg.solve_triangular(factor, across.T, lower=True, check_finite=False).T
    left = within - grown[n:, :n] @ grown[n:, :n].T
    grown[n:, n:] = linalg.cholesky(left, lower=True, check_finite=False)
    return grown
