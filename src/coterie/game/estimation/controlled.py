"""A surrogate as control variate: the game keeps the estimate true, the surrogate steadies it.

The surrogate's own semivalue can be had to any precision; the true game is asked only for what the
surrogate gets wrong. Folds keep the two apart: a surrogate is corrected on coalitions it was not
fitted to (cross-fitting, Chernozhukov et al. 2018, arXiv:1608.00060).
"""

from collections.abc import Sequence

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, ValueFunction, Vector
from coterie.game.designs import NO_ONE, Stratum, draw_distinct
from coterie.game.estimation.sampling import true_gains
from coterie.game.estimation.semivalues import Estimate, estimate_from, placed
from coterie.game.surrogates import Predictor, Surrogate

FOLDS = 4
QUERIES = 20_000  # base coalitions of the surrogate's own mean, per stratum; fewer are enumerated


def controlled_semivalue(
    value: ValueFunction,
    strata: Sequence[Stratum],
    surrogate: Surrogate,
    *,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> Estimate:
    """The paper's semivalue of the true game over base coalitions, a surrogate taking the noise.

    Asks what `stratified_semivalue` asks, and over `every_size` likewise gives Shapley values.
    Unbiased whatever the surrogate: a bad one costs precision, never truth. In each fold the mean
    over a stratum is the surrogate's own, plus its known errors where it was fitted, plus its mean
    error on the fold for all the rest.
    """
    base = np.concatenate([stratum.coalitions for stratum in strata])
    n_players = base.shape[1]
    free = np.setdiff1d(np.arange(n_players), locked)
    asked, values, gains = true_gains(value, base, free)
    fold, of_stratum = _dealt(strata, rng)
    owner = np.concatenate([fold, np.repeat(fold, len(free))])  # switches go with their base
    rows = [np.flatnonzero(owner != k) for k in range(FOLDS)]
    longest = max(len(some) for some in rows)
    rows = [np.resize(rng.permutation(some), longest) for some in rows]
    fitted = surrogate.refit(asked, np.tile(values, (FOLDS, 1)), rows, rngs=rng.spawn(FOLDS))
    parts = [
        _corrected(predictor, base, gains, fold == k, strata, of_stratum, free, locked, rng)
        for k, predictor in enumerate(fitted)
    ]
    means = np.mean([mean for mean, _, _ in parts], axis=0)
    variances = np.concatenate([spread for _, spread, _ in parts]) / FOLDS**2
    freedoms = np.concatenate([freedom for _, _, freedom in parts])
    estimate = estimate_from("stratified semivalue", means, variances, freedoms)
    return placed(estimate, n_players, free)


def _corrected(
    predictor: Predictor,
    base: Coalitions,
    gains: Matrix,
    held_out: np.ndarray,
    strata: Sequence[Stratum],
    of_stratum: Indices,
    free: Indices,
    locked: Indices,
    rng: np.random.Generator,
) -> tuple[Vector, Matrix, Matrix]:
    """Mean over strata, variances and degrees of freedom per stratum, from one fold."""
    wrong = gains - predictor.marginals(base)[:, free]
    means, variances, freedoms = [], [], []
    for number, stratum in enumerate(strata):
        mine = of_stratum == number
        fresh, fitted = wrong[mine & held_out], wrong[mine & ~held_out]
        rest = stratum.population - len(fitted)
        own = _own_mean(predictor, stratum, locked, rng)[free]
        correction = fitted.sum(axis=0)
        spread = np.zeros(len(free))
        if rest > 0 and len(fresh):
            correction = correction + rest * fresh.mean(axis=0)
        if rest > len(fresh):
            unknown = np.full(len(free), np.inf)
            spread = fresh.var(axis=0, ddof=1) / len(fresh) if len(fresh) > 1 else unknown
            spread = spread * (1 - len(fresh) / rest) * (rest / stratum.population) ** 2
        means.append(own + correction / stratum.population)
        variances.append(spread / len(strata) ** 2)
        freedoms.append(np.full(len(free), max(1.0, len(fresh) - 1.0)))
    return np.mean(means, axis=0), np.array(variances), np.array(freedoms)


def _own_mean(
    predictor: Predictor, stratum: Stratum, locked: Indices, rng: np.random.Generator
) -> Vector:
    """The surrogate's own mean gain at one size; its Monte Carlo error is kept negligible."""
    n_players = stratum.coalitions.shape[1]
    whole = draw_distinct(n_players, stratum.size, QUERIES, locked=locked, rng=rng)
    return predictor.marginals(whole.coalitions).mean(axis=0)


def _dealt(strata: Sequence[Stratum], rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Fold and stratum of every base coalition; folds are even in each stratum."""
    folds = [rng.permutation(np.arange(len(s.coalitions)) % FOLDS) for s in strata]
    lengths = [len(stratum.coalitions) for stratum in strata]
    return np.concatenate(folds), np.repeat(np.arange(len(strata)), lengths)
