"""Two answers to the same coalitions: a number that one worker found and another did not."""

import numpy as np

from coterie.game.coalitions import Indices, Matrix, Observations


def holes(seen: Observations) -> Indices:
    """How many numbers of each row are not finite, ``(n_rows,)``."""
    return np.sum([~np.isfinite(table) for table in _tables(seen)], axis=(0, 2))


def either(first: Observations, second: Observations) -> Observations:
    """Every number that either found; the second's where both did."""
    found = zip(_tables(first), _tables(second), strict=True)
    return Observations(*(np.where(np.isfinite(b), b, a) for a, b in found))


def _tables(seen: Observations) -> tuple[Matrix, Matrix, Matrix]:
    return seen.nll, seen.kl, seen.top1
