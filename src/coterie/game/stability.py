"""How much of an answer stays the same when the search is run again, or reads other texts."""

from itertools import combinations

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions, Matrix, Vector


def jaccard(one: Coalition, other: Coalition) -> float:
    # Of what is cut: what two small cuts keep overlaps in any case.
    """Overlap of two CUT sets: players cut by both, among those cut by either; 1 if none is."""
    either = (~one | ~other).sum()
    return float((~one & ~other).sum() / either) if either else 1.0


def cut_overlaps(answers: Coalitions) -> Vector:
    """Jaccard overlap of the cut sets of every two answers, ``(n_answers choose 2,)``."""
    return np.array([jaccard(one, other) for one, other in combinations(answers, 2)])


def rank_overlaps(values: Matrix) -> Vector:
    """Spearman correlation of every two rows of contributions, players with a NaN left out.

    Args:
        values: ``(n_repeats, n_players)``.
    """
    # A player that is locked in one run has no rank in any.
    known = np.isfinite(values).all(axis=0)
    ranks = values[:, known].argsort(axis=1).argsort(axis=1)
    return np.atleast_2d(np.corrcoef(ranks))[np.triu_indices(len(values), 1)]
