"""Semivalues of the true game, estimated from a sample of its coalitions. All are unbiased."""

from collections.abc import Sequence
from math import comb

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, ValueFunction, Vector, distinct
from coterie.game.designs import NO_ONE, Stratum, draw_permutations, draw_subsets
from coterie.game.estimation.semivalues import (
    Estimate,
    Semivalue,
    estimate_from,
    over_strata,
    placed,
    variance_of_mean,
)


def sampled(
    value: ValueFunction,
    n_players: int,
    semivalue: Semivalue,
    *,
    draws: int,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> Estimate:
    """Estimate any semivalue of the true game, stratified by player and size. Unbiased.

    Taking the differences between sizes out of the sampling error is due to Maleki et al. 2013,
    arXiv:1306.4265.

    Args:
        value: Called once, with every distinct coalition the estimate needs.
        n_players: Players of the game, locked ones included.
        semivalue: Which one: a probability for each size of coalition.
        draws: Distinct coalitions drawn per stratum; a smaller stratum is enumerated.
        locked: Players that stay.
        rng: Decides every draw.
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2 to give a standard error, got {draws}")
    # Strata by player and size (Maleki et al. 2013): sizes differ much, so they are kept apart.
    free = np.setdiff1d(np.arange(n_players), locked)
    n_free = len(free)
    used = np.flatnonzero(semivalue.weights > 0)
    parts = [_bases(n_players, free, int(size), draws, rng=rng) for size in used]
    without = np.concatenate(parts, axis=1)
    joined = without.copy()
    joined[np.arange(n_free), :, free] = True
    # One question for all: what strata share is asked once.
    asked = np.stack([joined, without]).reshape(-1, n_players)
    gains = np.subtract(*evaluate_bases(value, asked).reshape(2, n_free, -1))
    lengths = np.array([part.shape[1] for part in parts])
    by_size = np.split(gains.T, np.cumsum(lengths)[:-1])
    populations = [comb(n_free - 1, size) for size in used]
    weights = semivalue.weights[used]
    # The semivalue's own probabilities of the sizes are the weights of the strata.
    means = weights @ np.array([part.mean(axis=0) for part in by_size])
    spread = np.array([variance_of_mean(p, n) for p, n in zip(by_size, populations, strict=True)])
    freedoms = np.repeat(lengths[:, None] - 1.0, n_free, axis=1)
    estimate = estimate_from(semivalue.name, means, spread * weights[:, None] ** 2, freedoms)
    return placed(estimate, n_players, free)


def _bases(
    n_players: int, free: Indices, size: int, draws: int, *, rng: np.random.Generator
) -> np.ndarray:
    """Coalitions without each free player in turn, ``(n_free, n_drawn, n_players)``.

    Args:
        n_players: Players of the game, locked ones included.
        free: Players that are not locked.
        size: Free players inside each coalition.
        draws: Distinct coalitions of each player, at most.
        rng: Decides every draw.
    """
    n_free = len(free)
    subsets = draw_subsets(n_free - 1, size, draws, n_free, rng=rng)
    # Drawn among the others, so the player itself is never inside.
    others = np.stack([np.delete(free, player) for player in range(n_free)])
    without = np.ones((*subsets.shape[:2], n_players), dtype=bool)
    np.put_along_axis(without, others[:, None, :], subsets, axis=2)
    without[np.arange(n_free), :, free] = False
    return without


def permutation_shapley(
    value: ValueFunction,
    n_players: int,
    *,
    draws: int,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> Estimate:
    """Estimate Shapley values by random orders of arrival. Unbiased; they add up exactly.

    Each order asks n + 1 coalitions and gives one marginal contribution of every player
    (Castro et al. 2009, doi:10.1016/j.cor.2008.04.004).

    Args:
        value: The true game; called once, with every distinct coalition needed.
        n_players: Players of the game, locked ones included.
        draws: Orders of arrival, two at the least.
        locked: Players that stay.
        rng: Decides every draw.
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2 to give a standard error, got {draws}")
    free = np.setdiff1d(np.arange(n_players), locked)
    # Each order is a walk from the locked players alone to everybody.
    orders = draw_permutations(len(free), draws, rng=rng)
    arrival = np.argsort(orders, axis=1)
    walks = np.ones((draws, len(free) + 1, n_players), dtype=bool)
    walks[:, :, free] = arrival[:, None, :] < np.arange(len(free) + 1)[None, :, None]
    values = evaluate_bases(value, walks.reshape(-1, n_players)).reshape(draws, -1)
    # A player's gain stands where it arrives; it is sorted back by player.
    gains = np.take_along_axis(np.diff(values, axis=1), arrival, axis=1)
    variances = gains.var(axis=0, ddof=1)[None] / draws
    freedoms = np.full_like(variances, draws - 1)
    estimate = estimate_from("Shapley", gains.mean(axis=0), variances, freedoms)
    return placed(estimate, n_players, free)


def stratified_semivalue(
    value: ValueFunction, strata: Sequence[Stratum], locked: Indices = NO_ONE
) -> Estimate:
    """The paper's semivalue of the true game, over the base coalitions of ``strata``. Unbiased.

    Each base m asks v(m) and, for every player, v(m) with that player's membership switched.

    Args:
        value: The true game; called once, with every distinct coalition needed.
        strata: Base coalitions, by size.
        locked: Players that stay.
    """
    base = np.concatenate([stratum.coalitions for stratum in strata])
    free = np.setdiff1d(np.arange(base.shape[1]), locked)
    gains = np.full(base.shape, np.nan)
    gains[:, free] = true_gains(value, base, free)[2]
    return over_strata(gains, strata, locked)


def true_gains(
    value: ValueFunction, base: Coalitions, free: Indices
) -> tuple[Coalitions, Vector, Matrix]:
    """What was asked, its values, and v(m ∪ i) − v(m \\ i) as ``(n_base, n_free)``.

    The bases come first in what was asked, then each base's switches, player by player.

    Args:
        value: The true game; called once, with every distinct coalition needed.
        base: Base coalitions, ``(n_base, n_players)``.
        free: Players to switch, ``(n_free,)``.
    """
    # Every base with each free player's membership switched.
    n_base, n_players = base.shape
    switched = base[:, None, :] ^ np.eye(n_players, dtype=bool)[free]
    asked = np.concatenate([base, switched.reshape(-1, n_players)])
    values = evaluate_bases(value, asked)
    # The sign says whether the switch took the player out or in.
    towards = values[:n_base, None] - values[n_base:].reshape(n_base, len(free))
    return asked, values, np.where(base[:, free], towards, -towards)


def evaluate_bases(value: ValueFunction, coalitions: Coalitions) -> Vector:
    """Values of coalitions, each distinct one asked once; a value that is not finite is refused."""
    # Repeats cost nothing: a distinct coalition is asked once.
    first, inverse = distinct(coalitions)
    values = np.asarray(value(coalitions[first]), dtype=np.float64)
    if values.shape != (len(first),):
        raise ValueError(f"value returned shape {values.shape} for {len(first)} coalitions")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        players = np.flatnonzero(coalitions[first[bad[0]]]).tolist()
        raise ValueError(
            f"the coalition of players {players} has value {values[bad[0]]}, not finite"
        )
    return values[inverse]
