"""A surrogate as control variate: the game keeps the estimate true, the surrogate steadies it.

The surrogate's own semivalue can be had to any precision; the true game is asked only for what the
surrogate gets wrong. Folds keep the two apart: a surrogate is corrected on coalitions it was not
fitted to (cross-fitting, Chernozhukov et al. 2018, arXiv:1608.00060).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, ValueFunction, Vector
from coterie.game.designs import NO_ONE, Stratum, all_of_size, draw_distinct
from coterie.game.estimation.sampling import true_gains
from coterie.game.estimation.semivalues import Estimate, estimate_from, placed
from coterie.game.surrogates import Predictor, Surrogate
from coterie.game.surrogates.pairwise import Pairwise

FOLDS = 4
FEWEST = 4  # bases per size: two in each of two folds, so that every fold has a standard error
QUERIES = 2_000  # base coalitions of the surrogate's own mean, per stratum; fewer are enumerated


def controlled_shapley(
    value: ValueFunction,
    n_players: int,
    *,
    asked: int,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> Estimate:
    """Estimate Shapley values of the true game, a pairwise surrogate taking the noise. Unbiased.

    A base of uniform size with one player set aside is a coalition of the others of uniform size:
    the mean over bases of every size alike is the Shapley value.

    Args:
        value: The true game.
        n_players: Players of the game, locked ones included.
        asked: About how many coalitions to ask; `FEWEST` bases of every size are asked in any case.
        locked: Players that stay.
        rng: Draws bases and folds.

    Examples:
        >>> from coterie.game.toy import additive
        >>> game = additive(np.array([0.5, 0.25, 0.1, 1.0]))
        >>> found = controlled_shapley(game.value, 4, asked=100, rng=np.random.default_rng(0))
        >>> found.values.round(6).tolist()
        [0.5, 0.25, 0.1, 1.0]
    """
    n_free = n_players - len(locked)
    each = max(FEWEST, asked // ((n_free + 1) ** 2))
    strata = [
        draw_distinct(n_players, size, each, locked=locked, rng=rng)
        for size in range(len(locked), n_players + 1)
    ]
    found = controlled_semivalue(value, strata, Pairwise(), locked=locked, rng=rng)
    return replace(found, name="Shapley")


def least_asked(n_free: int) -> int:
    """Coalitions that `controlled_shapley` asks in any case, before repeats are thrown away."""
    return (FEWEST * (n_free - 1) + 2) * (n_free + 1)


def controlled_semivalue(
    value: ValueFunction,
    strata: Sequence[Stratum],
    surrogate: Surrogate,
    *,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> Estimate:
    """The paper's semivalue of the true game over base coalitions, a surrogate taking the noise.

    Asks what `stratified_semivalue` asks. Unbiased whatever the surrogate: a bad one costs
    precision, never truth. In each fold the mean over a stratum is the surrogate's own, plus its
    known errors where it was fitted, plus its mean error on the fold for all the rest.

    Args:
        value: The true game.
        strata: Base coalitions; at least `FEWEST` in each, or all that there are.
        surrogate: Fitted to the values of three folds, or one of two, and corrected on the rest.
        locked: Players that stay.
        rng: Deals the folds and starts the fits.

    Raises:
        ValueError: A stratum has fewer coalitions than its folds need.
    """
    fewest = min((len(s.coalitions) for s in strata if not s.complete), default=2 * FOLDS)
    if fewest < FEWEST:
        raise ValueError(
            f"a stratum of {fewest} coalitions cannot be divided into folds: draw at least {FEWEST}"
        )
    n_folds = FOLDS if fewest >= 2 * FOLDS else 2
    base = np.concatenate([stratum.coalitions for stratum in strata])
    free = np.setdiff1d(np.arange(base.shape[1]), locked)
    asked, values, gains = true_gains(value, base, free)
    fold = _dealt(strata, n_folds, rng)
    owner = np.concatenate([fold, np.repeat(fold, len(free))])  # switches go with their base
    rows = [np.flatnonzero(owner != k) for k in range(n_folds)]
    # Replicates are fitted together and must be of one length: the shorter repeat some rows.
    longest = max(len(some) for some in rows)
    rows = [np.resize(rng.permutation(some), longest) for some in rows]
    fitted = surrogate.refit(asked, np.tile(values, (n_folds, 1)), rows, rngs=rng.spawn(n_folds))
    bases = _Bases(base, gains, fold, strata, free=free, locked=locked)
    parts = [bases.corrected(predictor, k, rng) for k, predictor in enumerate(fitted)]
    means = np.mean([mean for mean, _, _ in parts], axis=0)
    variances = np.concatenate([spread for _, spread, _ in parts]) / n_folds**2
    freedoms = np.concatenate([freedom for _, _, freedom in parts])
    estimate = estimate_from("stratified semivalue", means, variances, freedoms)
    return placed(estimate, base.shape[1], free)


@dataclass(frozen=True, eq=False)
class _Bases:
    """Base coalitions, the true gains around them, and the folds they were dealt to."""

    coalitions: Coalitions
    gains: Matrix
    fold: Indices
    strata: Sequence[Stratum]
    free: Indices
    locked: Indices

    def corrected(
        self, predictor: Predictor, fold: int, rng: np.random.Generator
    ) -> tuple[Vector, Matrix, Matrix]:
        """Mean over strata, variances and degrees of freedom per stratum, from one fold."""
        wrong = self.gains - predictor.marginals(self.coalitions)[:, self.free]
        of_stratum = np.repeat(
            np.arange(len(self.strata)), [len(stratum.coalitions) for stratum in self.strata]
        )
        means, variances, freedoms = [], [], []
        for number, stratum in enumerate(self.strata):
            mine, held_out = of_stratum == number, self.fold == fold
            fresh, fitted = wrong[mine & held_out], wrong[mine & ~held_out]
            rest = stratum.population - len(fitted)
            mean = _own_mean(predictor, stratum, self.locked, rng)[self.free]
            mean = mean + fitted.sum(axis=0) / stratum.population
            spread = np.zeros(len(self.free))
            if rest > 0:
                mean = mean + rest * fresh.mean(axis=0) / stratum.population
            if rest > len(fresh):  # else every coalition of the size is known
                spread = fresh.var(axis=0, ddof=1) / len(fresh) * (1 - len(fresh) / rest)
                spread = spread * (rest / stratum.population) ** 2
            means.append(mean)
            variances.append(spread / len(self.strata) ** 2)
            freedoms.append(np.full(len(self.free), max(1.0, len(fresh) - 1.0)))
        return np.mean(means, axis=0), np.array(variances), np.array(freedoms)


def _own_mean(
    predictor: Predictor, stratum: Stratum, locked: Indices, rng: np.random.Generator
) -> Vector:
    """The surrogate's own mean gain at one size, its Monte Carlo error negligible.

    A larger size is asked by coalitions in all their rotations: every free player is then in
    equally many, and a surrogate of single players and pairs is answered without any error.
    """
    n_players, size = stratum.coalitions.shape[1], stratum.size
    if stratum.population <= QUERIES:
        whole = all_of_size(n_players, size, locked=locked)
        return predictor.marginals(whole).mean(axis=0)
    free = np.setdiff1d(np.arange(n_players), locked)
    n_free = len(free)
    drawn = rng.random((max(1, QUERIES // n_free), n_free)).argsort(axis=1) < size - len(locked)
    turned = (np.arange(n_free)[:, None] + np.arange(n_free)) % n_free
    whole = np.ones((len(drawn) * n_free, n_players), dtype=bool)
    whole[:, free] = drawn[:, turned].reshape(-1, n_free)
    return predictor.marginals(whole).mean(axis=0)


def _dealt(strata: Sequence[Stratum], n_folds: int, rng: np.random.Generator) -> Indices:
    """Fold of every base coalition; folds are even in each stratum."""
    folds = [rng.permutation(np.arange(len(s.coalitions)) % n_folds) for s in strata]
    return np.concatenate(folds)
