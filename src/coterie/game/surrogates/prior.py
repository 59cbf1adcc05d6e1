"""What a Gaussian process believes of coalitions before it has seen any."""

from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Coalitions, Matrix, Vector
from coterie.game.surrogates.pairwise import pair_features

DECAYS = (0.5, 0.8, 1.0)  # r: how fast pair effects fade with distance
LENGTHS = (2.0, 6.0)  # ℓ: how many switches make the rest another
JITTER = 1e-8
CONSTANT = 10.0  # variance of the level, which the data fix at once


@dataclass(frozen=True)
class Prior:
    """Variances of the parts, in squared units of the standardised targets, and their shapes."""

    single: float = 1.0
    pair: float = 0.3
    rest: float = 0.05
    noise: float = 1e-4
    decay: float = 0.8
    length: float = 6.0

    @property
    def logs(self) -> Vector:
        """The four variances as the optimiser sees them."""
        return np.log([self.single, self.pair, self.rest, self.noise])

    def having(self, logs: Vector) -> "Prior":
        """The same shapes with other variances."""
        single, pair, rest, noise = (float(v) for v in np.exp(logs))
        return Prior(single, pair, rest, noise, decay=self.decay, length=self.length)


def covariance_of(prior: Prior, some: Coalitions, others: Coalitions) -> Matrix:
    """Covariances of the values of coalitions, ``(n_some, n_others)``.

    Args:
        prior: Variances and shapes of the parts.
        some: ``(n_some, n_players)``.
        others: ``(n_others, n_players)``.
    """
    single, pair = similarities(prior, some, others)
    total = prior.single * single
    total += prior.pair * pair
    total += rest_of(prior, some, others)
    total += CONSTANT
    return total


def similarities(prior: Prior, some: Coalitions, others: Coalitions) -> tuple[Matrix, Matrix]:
    """Similarities by single cuts and by pairs cut, at unit variance, ``(n_some, n_others)``.

    Args:
        prior: Variances and shapes of the parts.
        some: ``(n_some, n_players)``.
        others: ``(n_others, n_players)``.
    """
    mine, theirs = (~some).astype(np.float64), (~others).astype(np.float64)
    single = mine @ theirs.T
    # Without decay all pairs weigh alike, and their number has a closed form.
    if prior.decay == 1:
        return single, single * (single - 1) / 2
    n_players = some.shape[1]
    weights = prior_of_features(Prior(1, 1, decay=prior.decay), n_players)[n_players:]
    mine, theirs = pair_features(some)[:, n_players:], pair_features(others)[:, n_players:]
    return single, (mine * weights) @ theirs.T


def rest_of(prior: Prior, some: Coalitions, others: Coalitions) -> Matrix:
    """Covariances of what neither single cuts nor pairs explain, ``(n_some, n_others)``.

    Args:
        prior: Variances and shapes of the parts.
        some: ``(n_some, n_players)``.
        others: ``(n_others, n_players)``.
    """
    # Hamming distance of the cut sets: a whole number, so one exponential for each there can be.
    mine, theirs = (1 - 2 * rows.astype(np.float32) for rows in (some, others))
    n_players = some.shape[1]
    apart = ((n_players - mine @ theirs.T) / 2).astype(np.intp)
    by_distance = prior.rest * np.exp(-np.arange(n_players + 1) / prior.length)
    return by_distance[apart]


def variance_of(prior: Prior, coalitions: Coalitions) -> Vector:
    """Variances of the values of coalitions, ``(n_coalitions,)``."""
    features = pair_features(coalitions)
    return CONSTANT + prior.rest + features @ prior_of_features(prior, coalitions.shape[1])


def prior_of_features(prior: Prior, n_players: int) -> Vector:
    """Variances of the weights of single cuts, then of pairs."""
    first, second = np.triu_indices(n_players, 1)
    pairs = prior.pair * prior.decay ** (second - first)
    return np.concatenate([np.full(n_players, prior.single), pairs])
