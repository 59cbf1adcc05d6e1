"""Pairwise interaction: which players stand in for each other, and which need each other.

The interaction of i and j in S is δ_ij(S) = v(S ∪ ij) − v(S ∪ i) − v(S ∪ j) + v(S), for S without
both. Averaged with every size of S equally likely it is the Shapley interaction index (Grabisch and
Roubens 1999, doi:10.1007/s001820050125). Negative: each makes up for the loss of the other, so
losing both costs more than losing each. Positive: one is worth little without the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, ValueFunction, Vector, sizes
from coterie.game.designs import NO_ONE, Stratum, draw_strata, enumerate_all
from coterie.game.estimation.refits import Refits
from coterie.game.estimation.sampling import evaluate_bases
from coterie.game.estimation.semivalues import over_strata


@dataclass(frozen=True, eq=False)
class Interactions:
    """Interaction of every pair, with its errors by source; symmetric ``(n_players, n_players)``.

    The diagonal is zero; pairs with a locked player are NaN.
    """

    name: str
    values: Matrix
    error_sampling: Matrix
    error_texts: Matrix | None = None


def exact_interactions(table: Vector, n_players: int) -> Interactions:
    """The Shapley interaction index, from all values in the order of `enumerate_all`."""
    if table.shape != (2**n_players,):
        raise ValueError(f"{n_players} players need {2**n_players} values, got {table.shape}")
    # S runs over coalitions of the others, n − 2 of them.
    held = sizes(enumerate_all(n_players - 2))
    counts = np.array([comb(n_players - 2, size) for size in range(n_players - 1)])
    # Every size equally likely, and within a size every coalition: the Shapley weights.
    weights = 1 / (n_players - 1) / counts[held]
    values = np.zeros((n_players, n_players))
    for i, j in zip(*np.triu_indices(n_players, 1), strict=True):
        # axes: bits above j, j, the bits between, i, the bits below i
        cube = table.reshape(-1, 2, 2 ** (j - i - 1), 2, 2**i)
        delta = cube[:, 1, :, 1] - cube[:, 1, :, 0] - cube[:, 0, :, 1] + cube[:, 0, :, 0]
        values[i, j] = values[j, i] = weights @ delta.reshape(-1)
    return Interactions("Shapley interaction", values, np.zeros_like(values))


def every_size(
    n_players: int, draws: int, *, locked: Indices = NO_ONE, rng: np.random.Generator
) -> list[Stratum]:
    """Base coalitions of every size alike, over which the average is Shapley's.

    A base of uniform size with one player (or two) set aside is a coalition of the others of
    uniform size: so the mean over bases is the Shapley value, or the Shapley interaction index.

    Args:
        n_players: Players of the game, locked ones included.
        draws: Draws in all, in equal shares over the sizes.
        locked: Players that stay.
        rng: Decides every draw.
    """
    return draw_strata(n_players, range(len(locked), n_players + 1), draws, locked=locked, rng=rng)


def sampled_interactions(
    value: ValueFunction, strata: Sequence[Stratum], locked: Indices = NO_ONE
) -> Interactions:
    """Interactions in the true game, averaged over base coalitions; unbiased.

    Each base m asks m with every pair of free players set to in or out, 1 + n(n+1)/2 coalitions
    before repeats. Over `every_size` this is the Shapley interaction index; over the strata of one
    study, the interaction near those sizes.

    Args:
        value: The true game; called once, with every distinct coalition needed.
        strata: Base coalitions, by size.
        locked: Players that stay.
    """
    return _over(lambda coalitions: evaluate_bases(value, coalitions), strata, locked)


def interactions_from(
    fits: Refits, strata: Sequence[Stratum], locked: Indices = NO_ONE
) -> Interactions:
    """Interactions according to a surrogate, averaged over base coalitions, with both errors.

    Args:
        fits: The surrogate fitted to everything, and refitted by source of error.
        strata: Base coalitions, by size.
        locked: Players that stay.
    """

    def of(predictor) -> Matrix:
        return _over(predictor.predict, strata, locked).values

    sampling, texts = fits.errors(of)
    return Interactions("interaction by surrogate", of(fits.predictor), sampling, texts)


def _over(value: ValueFunction, strata: Sequence[Stratum], locked: Indices) -> Interactions:
    base = np.concatenate([stratum.coalitions for stratum in strata])
    n_players = base.shape[1]
    free = np.setdiff1d(np.arange(n_players), locked)
    # Free pairs only; a locked player is in every coalition, so its δ is not defined.
    first, second = (free[k] for k in np.triu_indices(len(free), 1))
    found = over_strata(_deltas(value, base, first, second), strata)
    values = np.full((n_players, n_players), np.nan)
    errors = values.copy()
    # The diagonal is zero by definition, the locked players' rows stay NaN.
    values[np.ix_(free, free)] = errors[np.ix_(free, free)] = 0.0
    values[first, second] = values[second, first] = found.values
    errors[first, second] = errors[second, first] = found.error_sampling
    return Interactions("interaction", values, errors)


def _deltas(value: ValueFunction, base: Coalitions, first: Indices, second: Indices) -> Matrix:
    """δ of every pair around every base coalition, ``(n_base, n_pairs)``."""
    n_players = base.shape[1]
    # Switch patterns: nobody, one player, two players; shared by all bases.
    switches = np.zeros((1 + n_players + len(first), n_players), dtype=bool)
    switches[1 : 1 + n_players] = np.eye(n_players, dtype=bool)
    pairs = np.arange(1 + n_players, len(switches))
    switches[pairs, first] = switches[pairs, second] = True
    # Players in no pair, the locked ones, are never switched.
    used = np.r_[0, 1 + np.union1d(first, second), pairs]
    values = np.full((len(base), len(switches)), np.nan)
    asked = base[:, None, :] ^ switches[used]
    values[:, used] = value(asked.reshape(-1, n_players)).reshape(len(base), len(used))
    here, one, other = values[:, :1], values[:, 1 + first], values[:, 1 + second]
    # δ has one sign if both or neither are in the base, the other if exactly one is.
    sign = np.where(base[:, first] == base[:, second], 1.0, -1.0)
    return sign * (here - one - other + values[:, pairs])
