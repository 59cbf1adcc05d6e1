"""A Gaussian process over coalitions: single cuts, pairs, and a rest, with predictive deviations.

The prior says that cutting a player has an effect, that cutting two has an extra effect which is
larger between neighbours, and that what remains is alike for coalitions that differ by few players:

    k(z, z′) = σ₁² Σ z_i z′_i + σ₂² Σ_{i<j} r^{|i−j|} z_i z_j z′_i z′_j + σ₃² exp(−hamming / ℓ)

with z = 1 where a player is cut. The four variances (noise is the fourth) maximise the marginal
likelihood, r and ℓ are chosen among a few (Rasmussen and Williams 2006, chapter 5). It is the
pairwise surrogate with its uncertainty, and knows where pairs do not suffice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, optimize

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector
from coterie.game.surrogates import switched_marginals
from coterie.game.surrogates.pairwise import pair_features
from coterie.game.surrogates.prior import (
    CONSTANT,
    DECAYS,
    JITTER,
    LENGTHS,
    Prior,
    covariance_of,
    prior_of_features,
    rest_of,
    similarities,
    variance_of,
)

PRIOR_ROWS = 400  # coalitions on which a prior is chosen; conditioning uses all of them


@dataclass(frozen=True, eq=False)
class ProcessPredictor:
    """A Gaussian process that has seen some coalitions."""

    prior: Prior
    coalitions: Coalitions
    features: Matrix
    factor: Matrix
    """Lower Cholesky factor of the covariance of what was seen."""
    weights: Vector
    """Covariance⁻¹ × standardised targets."""
    residuals: Vector
    mean: float
    scale: float
    rest_factor: Matrix | None = None
    """Lower Cholesky factor of what neither cuts nor pairs explain, where it is known already."""

    @cached_property
    def effects(self) -> tuple[float, Vector, Matrix]:
        """Posterior means of the level, of single cuts and of pairs, in standard units."""
        n_players = self.coalitions.shape[1]
        means = prior_of_features(self.prior, n_players) * (self.weights @ self.features)
        pairs = np.zeros((n_players, n_players))
        pairs[np.triu_indices(n_players, 1)] = means[n_players:]
        return CONSTANT * float(self.weights.sum()), means[:n_players], pairs

    def predict(self, coalitions: Coalitions) -> Vector:
        """Posterior means, ``(n_coalitions,)``."""
        # The same as k(z, z′) times the weights, the sums over cuts and pairs taken beforehand.
        level, single, pairs = self.effects
        cut = (~coalitions).astype(np.float64)
        known = level + cut @ single + ((cut @ pairs) * cut).sum(axis=1)
        rest = rest_of(self.prior, coalitions, self.coalitions) @ self.weights
        return self.mean + self.scale * (known + rest)

    def marginals(self, base: Coalitions) -> Matrix:
        """f(m ∪ i) − f(m \\ i) for every base coalition m and player i, ``(n_base, n_players)``."""
        return switched_marginals(self.predict, base)

    def deviation(self, coalitions: Coalitions) -> Vector:
        """Posterior standard deviations of the value, noise left out, ``(n_coalitions,)``."""
        spread = prior_of_features(self.prior, coalitions.shape[1])
        cross = (pair_features(coalitions) * spread) @ self.features.T + CONSTANT
        cross += rest_of(self.prior, coalitions, self.coalitions)
        # Solved through the factor: the covariance is never inverted.
        half = linalg.solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        own = variance_of(self.prior, coalitions)
        return self.scale * np.sqrt(np.maximum(own - (half**2).sum(axis=0), 0))

    def samples(self, coalitions: Coalitions, n: int, *, rng: np.random.Generator) -> Matrix:
        """Joint draws from the posterior, ``(n, n_coalitions)``; cubic in the coalitions.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            n: How many draws.
            rng: Draws them.
        """
        cross = covariance_of(self.prior, coalitions, self.coalitions)
        half = linalg.solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        spread = covariance_of(self.prior, coalitions, coalitions) - half.T @ half
        # A little more on the diagonal: rounding may have made it indefinite.
        spread[np.diag_indices_from(spread)] += JITTER + 1e-6 * np.abs(spread).max()
        root = linalg.cholesky(spread, lower=True, check_finite=False)
        draws = cross @ self.weights + rng.normal(size=(n, len(coalitions))) @ root.T
        return self.mean + self.scale * draws

    def pairwise_samples(self, n: int, *, rng: np.random.Generator) -> tuple[Matrix, np.ndarray]:
        """Posterior draws of the single and pair effects alone, in units of the targets.

        Returns ``(n, n_players)`` effects of single cuts and ``(n, n_players, n_players)``
        symmetric ones of pairs. By Matheron's rule: draw from the prior, then correct by the data.
        """
        n_players = self.coalitions.shape[1]
        spread = prior_of_features(self.prior, n_players)
        # Matheron's rule, first half: effects as the prior would have them.
        drawn = rng.normal(size=(n, len(spread))) * np.sqrt(spread)
        root = self.rest_factor
        if root is None:
            rest = rest_of(self.prior, self.coalitions, self.coalitions)
            rest[np.diag_indices_from(rest)] += self.prior.noise + JITTER
            root = linalg.cholesky(rest, lower=True, check_finite=False)
        seen = drawn @ self.features.T + rng.normal(size=(n, len(root))) @ root.T
        # Second half: whatever the draw says wrongly of the data is taken back.
        missing = linalg.cho_solve((self.factor, True), (self.residuals - seen).T)
        drawn += (missing.T @ self.features) * spread
        pairs = np.zeros((n, n_players, n_players))
        first, second = np.triu_indices(n_players, 1)
        pairs[:, first, second] = pairs[:, second, first] = drawn[:, n_players:]
        return self.scale * drawn[:, :n_players], self.scale * pairs


@dataclass(frozen=True)
class Process:
    """Fit a Gaussian process, its prior by marginal likelihood unless one is given.

    Attributes:
        prior: Chosen beforehand; choosing one costs far more than conditioning on what was seen.
    """

    prior: Prior | None = None

    @classmethod
    def suited_to(cls, coalitions: Coalitions, targets: Vector) -> "Process":
        """The process whose prior is chosen on these values, once for all its fits."""
        rows = _spaced(len(targets))
        return cls(best_prior(coalitions[rows], targets[rows]))

    @property
    def name(self) -> str:
        """What a report calls it."""
        return "Gaussian process"

    def fit(
        self, coalitions: Coalitions, targets: Vector, *, rng: np.random.Generator
    ) -> ProcessPredictor:
        """Fit values ``(n_coalitions,)``; ``rng`` is not used.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: Their values, ``(n_coalitions,)``.
            rng: Starts the fit; a fit in closed form does not use it.
        """
        prior = self.prior or self.suited_to(coalitions, targets).prior
        assert prior is not None
        return condition(prior, coalitions, targets)

    def refit(
        self,
        coalitions: Coalitions,
        targets: Matrix,
        rows: Sequence[Indices],
        *,
        rngs: Sequence[np.random.Generator],
    ) -> list[ProcessPredictor]:
        """Condition one process per replicate; the prior is chosen once, on the first of them.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: ``(n_replicates, n_coalitions)``: each replicate may see other values.
            rows: Coalitions that each replicate sees, all of one length.
            rngs: One per replicate.
        """
        # Choosing a prior costs most; replicates differ too little to need their own.
        prior = self.prior
        if prior is None:
            chosen = rows[0][_spaced(len(rows[0]))]
            prior = best_prior(coalitions[chosen], targets[0, chosen])
        return [
            condition(prior, coalitions[chosen], values[chosen])
            for values, chosen in zip(targets, rows, strict=True)
        ]


def _spaced(n: int) -> Indices:
    """At most so many rows that a prior is chosen on, evenly spaced; its cost is cubic in them."""
    return np.arange(n) if n <= PRIOR_ROWS else np.linspace(0, n - 1, PRIOR_ROWS).astype(np.intp)


def condition(
    prior: Prior, coalitions: Coalitions, targets: Vector, errors: Vector | None = None
) -> ProcessPredictor:
    """The process given what was seen.

    Args:
        prior: Variances and shapes of the parts.
        coalitions: ``(n_coalitions, n_players)``.
        targets: Their values, ``(n_coalitions,)``.
        errors: Standard errors of the targets, known from elsewhere, ``(n_coalitions,)``.
    """
    mean, scale = standard(targets)
    residuals = (targets - mean) / scale
    covariance = covariance_of(prior, coalitions, coalitions)
    own = 0.0 if errors is None else (errors / scale) ** 2
    # Noise of the model, and errors known from elsewhere, such as texts not read.
    covariance[np.diag_indices_from(covariance)] += prior.noise + own + JITTER
    factor = linalg.cholesky(covariance, lower=True, check_finite=False)
    weights = linalg.cho_solve((factor, True), residuals, check_finite=False)
    features = pair_features(coalitions)
    return ProcessPredictor(
        prior,
        coalitions,
        features,
        factor=factor,
        weights=weights,
        residuals=residuals,
        mean=mean,
        scale=scale,
    )


def best_prior(
    coalitions: Coalitions,
    targets: Vector,
    errors: Vector | None = None,
    start: Prior | None = None,
) -> Prior:
    """The prior under which what was seen is likeliest; shapes are tried only without a start.

    Args:
        coalitions: ``(n_coalitions, n_players)``.
        targets: Their values, ``(n_coalitions,)``.
        errors: Standard errors of the targets, known from elsewhere, ``(n_coalitions,)``.
        start: A prior whose shapes are kept and whose variances are improved.
    """
    mean, scale = standard(targets)
    residuals = (targets - mean) / scale
    own = np.zeros(len(targets)) if errors is None else (errors / scale) ** 2
    shapes = [(r, length) for r in DECAYS for length in LENGTHS]
    # A start has shapes that were chosen before: only its variances are improved.
    starts = [Prior(decay=r, length=length) for r, length in shapes] if start is None else [start]
    found = [_likeliest(prior, coalitions, residuals, own) for prior in starts]
    return min(found, key=lambda pair: pair[0])[1]


def _likeliest(
    prior: Prior, coalitions: Coalitions, residuals: Vector, own: Vector
) -> tuple[float, Prior]:
    unit = Prior(1, 1, 1, 1, decay=prior.decay, length=prior.length)
    single, pair = similarities(unit, coalitions, coalitions)
    parts = np.stack([single, pair, rest_of(unit, coalitions, coalitions), np.eye(len(residuals))])

    # The negative log marginal likelihood and its slope, by the logs of the variances.
    def surprise(logs: Vector) -> tuple[float, Vector]:
        covariance = np.tensordot(np.exp(logs), parts, axes=1) + CONSTANT
        covariance[np.diag_indices_from(covariance)] += own + JITTER
        try:
            factor = linalg.cholesky(covariance, lower=True, check_finite=False)
        # Not positive definite: the optimiser is sent back.
        except linalg.LinAlgError:
            return 1e10, np.zeros(4)
        inverse = linalg.lapack.dpotri(factor, lower=1)[0]  # its lower half
        inverse += np.tril(inverse, -1).T
        weights = inverse @ residuals
        loss = 0.5 * residuals @ weights + np.log(np.diagonal(factor)).sum()
        slope = 0.5 * np.tensordot(parts, inverse - np.outer(weights, weights), axes=2)
        return float(loss), slope * np.exp(logs)

    bounds = [(-9, 6), (-12, 5), (-14, 3), (-14, 1)]
    done = optimize.minimize(
        surprise, prior.logs, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 30}
    )
    return float(done.fun), prior.having(done.x)


def standard(targets: Vector) -> tuple[float, float]:
    """Mean and spread of some values; the spread is 1 where they are all alike."""
    # Constant targets keep their unit: nothing is divided by zero.
    spread = float(np.std(targets))
    return float(np.mean(targets)), spread if spread > 0 else 1.0
