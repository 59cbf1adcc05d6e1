"""What each player contributes: semivalues, exact or sampled, each with standard errors.

A semivalue is the mean marginal contribution v(S ∪ i) − v(S) when the size of S follows a given
distribution and S is uniform among the coalitions of its size that lack i. Shapley, Banzhaf and
the paper's stratified semivalue differ in that distribution alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes a second to import

from coterie.game.coalitions import Indices, Matrix, Vector, sizes
from coterie.game.designs import NO_ONE, Stratum, enumerate_all
from coterie.game.surrogates import Predictor


@dataclass(frozen=True, eq=False)
class Semivalue:
    """A semivalue by its name and the probability that S holds 0, 1, … unlocked players."""

    name: str
    weights: Vector
    """One probability per size of S, ``(n_free,)``."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A semivalue of every player with its standard errors by source, arrays ``(n_players,)``.

    A locked player is in every coalition and has no marginal contribution: its entries are NaN.
    """

    name: str
    values: Vector
    error_sampling: Vector
    """From which coalitions were drawn; of a fitted surrogate, its refitting included."""
    freedom: Vector
    """Degrees of freedom behind ``error_sampling``; infinite where nothing was sampled."""
    error_texts: Vector | None = None
    """From which documents were read; None where values were not followed text by text."""
    freedom_texts: float = np.inf
    error_query: Vector | None = None
    """Monte Carlo error of asking a fitted surrogate. No error of the contribution: more queries
    shrink it to nothing, whatever the surrogate is worth."""

    @property
    def errors(self) -> Vector:
        """Both sources together."""
        texts = 0.0 if self.error_texts is None else self.error_texts
        return np.hypot(self.error_sampling, texts)

    def interval(self, confidence: float = 0.95) -> tuple[Vector, Vector]:
        """Lower and upper ends that hold the true semivalue this often (Student's t)."""
        # Sources are independent: variances add, and so the freedoms are pooled.
        variances = [self.error_sampling**2]
        freedoms = [self.freedom]
        if self.error_texts is not None:
            variances.append(self.error_texts**2)
            freedoms.append(np.full(len(self.values), self.freedom_texts))
        _, freedom = pooled(np.array(variances), np.array(freedoms))
        half = stdtrit(freedom, (1 + confidence) / 2) * self.errors
        return self.values - half, self.values + half


def shapley(n_free: int) -> Semivalue:
    """Every size equally likely (Shapley 1953)."""
    return Semivalue("Shapley", np.full(n_free, 1 / n_free))


def banzhaf(n_free: int) -> Semivalue:
    """Every coalition equally likely (Banzhaf 1965)."""
    counts = [comb(n_free - 1, size) for size in range(n_free)]
    return Semivalue("Banzhaf", np.array(counts) / 2.0 ** (n_free - 1))


def stratified(n_players: int, bases: Sequence[int], n_locked: int = 0) -> Semivalue:
    """The paper's semivalue (arXiv:2602.07804): a base coalition m, then v(m ∪ i) − v(m \\ i).

    The base's size is uniform over ``bases`` (locked players counted). A player is in the base
    with probability size / n, and then joins a coalition one smaller. It is a semivalue near the
    top of the lattice, not the Shapley value.

    Args:
        n_players: Players of the game, locked ones included.
        bases: Sizes of the base coalitions.
        n_locked: How many players stay whatever happens.
    """
    n_free = n_players - n_locked
    weights = np.zeros(n_free + 1)
    # Given twice, a size is still one stratum.
    bases = tuple(dict.fromkeys(bases))
    for inside in (size - n_locked for size in bases):
        weights[inside - 1] += inside / n_free / len(bases)  # inside = 0 adds nothing
        weights[inside] += (1 - inside / n_free) / len(bases)
    return Semivalue("stratified semivalue", weights[:-1])


def exact(table: Vector, semivalue: Semivalue) -> Estimate:
    """The semivalue itself, from the values of all coalitions in the order of `enumerate_all`.

    Args:
        table: ``(2 ** n_players,)``; up to 20 players, with nobody locked.

    Examples:
        >>> from coterie.game.toy import unanimity
        >>> table = unanimity(3, np.array([0, 2])).value(enumerate_all(3))
        >>> exact(table, shapley(3)).values.tolist()
        [0.5, 0.0, 0.5]
    """
    n_players = len(semivalue.weights)
    if table.shape != (2**n_players,):
        raise ValueError(f"{n_players} players need {2**n_players} values, got {table.shape}")
    # Of the others: what S can be, in the order of the table.
    held = sizes(enumerate_all(n_players - 1))
    counts = np.array([comb(n_players - 1, size) for size in range(n_players)])
    weights = (semivalue.weights / counts)[held]
    values = np.empty(n_players)
    for player in range(n_players):
        # Bit `player` of a row's number says whether the player is in.
        split = table.reshape(-1, 2, 2**player)  # middle axis: is the player kept?
        values[player] = weights @ (split[:, 1] - split[:, 0]).reshape(-1)
    return estimate_from(semivalue.name, values, np.zeros((1, n_players)), np.ones((1, n_players)))


def stratified_semivalue_from(
    predictor: Predictor, strata: Sequence[Stratum], locked: Indices = NO_ONE
) -> Estimate:
    """The paper's semivalue of a fitted surrogate, over the base coalitions of ``strata``.

    Only ``error_query`` is known here; the error of the contribution itself needs the surrogate
    refitted: see `coterie.game.estimation.contributions`.

    Args:
        predictor: The fitted surrogate.
        strata: Base coalitions, by size.
        locked: Players that stay.
    """
    base = np.concatenate([stratum.coalitions for stratum in strata])
    found = over_strata(predictor.marginals(base), strata, locked)
    unknown = np.full_like(found.values, np.nan)
    return replace(found, error_sampling=unknown, error_query=found.error_sampling)


def over_strata(gains: Matrix, strata: Sequence[Stratum], locked: Indices = NO_ONE) -> Estimate:
    """Mean over strata of the mean gain in each; ``gains`` has shape ``(n_base, n_players)``.

    Args:
        gains: Gain of every player around every base, ``(n_base, n_players)``.
        strata: Base coalitions, by size.
        locked: Players that stay.
    """
    free = np.setdiff1d(np.arange(gains.shape[1]), locked)
    lengths = np.array([len(stratum.coalitions) for stratum in strata])
    parts = np.split(gains[:, free], np.cumsum(lengths)[:-1])
    # Strata count equally, whatever their size: the paper's mean of means.
    means = np.mean([part.mean(axis=0) for part in parts], axis=0)
    spread = [variance_of_mean(p, s.population) for p, s in zip(parts, strata, strict=True)]
    freedoms = np.repeat(lengths[:, None] - 1.0, len(free), axis=1)
    variances = np.array(spread) / len(strata) ** 2
    estimate = estimate_from("stratified semivalue", means, variances, freedoms)
    return placed(estimate, gains.shape[1], free)


def pooled(variances: Matrix, freedoms: Matrix) -> tuple[Vector, Vector]:
    """Sum of independent variances over axis 0, and its freedom by Welch and Satterthwaite."""
    total = variances.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A part without variance adds no freedom, and 0 / 0 is such a part.
        shares = np.nan_to_num(variances / total) ** 2 / np.maximum(freedoms, 1)
        return total, 1 / shares.sum(axis=0)


def variance_of_mean(gains: Matrix, population: int) -> Vector:
    """Variance of the mean of a uniform subset drawn without replacement, per column."""
    n = len(gains)
    if n == population:
        return np.zeros(gains.shape[1])
    if n < 2:
        return np.full(gains.shape[1], np.inf)  # one draw says nothing about the spread
    return gains.var(axis=0, ddof=1) / n * (1 - n / population)


def estimate_from(name: str, values: Vector, variances: Matrix, freedoms: Matrix) -> Estimate:
    """An estimate whose variance is a sum of independent ones, added over axis 0.

    Args:
        name: The semivalue's name.
        values: ``(n_players,)``.
        variances: Independent parts of the variance, ``(n_parts, n_players)``.
        freedoms: Degrees of freedom of each part, of the same shape.
    """
    total, freedom = pooled(variances, freedoms)
    return Estimate(name, values, np.sqrt(total), freedom)


def placed(estimate: Estimate, n_players: int, free: Indices) -> Estimate:
    """An estimate of the free players among all, with NaN for every player that is locked.

    Args:
        estimate: Of the free players alone.
        n_players: Players of the game, locked ones included.
        free: Which players these are, ``(n_free,)``.
    """
    # NaN, not zero: a locked player's contribution does not exist.
    placed = np.full((3, n_players), np.nan)
    placed[:, free] = estimate.values, estimate.error_sampling, estimate.freedom
    return replace(estimate, values=placed[0], error_sampling=placed[1], freedom=placed[2])
