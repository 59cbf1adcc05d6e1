"""Does a text go round in circles: shares of repeated n-grams, and where a loop begins."""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Token ids of one text, ``(n_tokens,)``."""

N_GRAM = 4
"""Tokens of an n-gram, as in the measure seq-rep-4 (arXiv:1908.04319, section 6.1)."""

ROUNDS, LONGEST, SHORTEST = 3, 16, 8
"""A loop stands at least so often in a row, a round has at most so many tokens, and all rounds
together have at least so many."""


def repeated_share(ids: Ids, n: int = N_GRAM) -> float | None:
    """Share of n-grams that occurred before in the same text; None where it has none.

    >>> repeated_share(np.array([1, 2, 3, 1, 2, 3]), n=2)
    0.4
    """
    if len(ids) < n:
        return None
    grams = np.lib.stride_tricks.sliding_window_view(ids, n)
    return 1.0 - len(np.unique(grams, axis=0)) / len(grams)


def first_loop(ids: Ids) -> int | None:
    """Tokens before the first loop; None where the text never goes round.

    A loop is a block that stands three times in a row without anything between.

    >>> first_loop(np.array([5, 1, 2, 1, 2, 1, 2, 1, 2, 9]))
    1
    """
    starts = [start for round_ in range(1, LONGEST + 1) if (start := _loop(ids, round_)) >= 0]
    return min(starts, default=None)


def _loop(ids: Ids, round_: int) -> int:
    """Where a loop of so many tokens begins; -1 where none does."""
    span = max(ROUNDS * round_, SHORTEST)
    if len(ids) < span:
        return -1
    same = ids[round_:] == ids[:-round_]
    # A loop of that span is a run of tokens that equal those one round before them.
    runs = np.convolve(same, np.ones(span - round_, dtype=int), "valid") == span - round_
    return int(np.argmax(runs)) if runs.any() else -1


def in_common(one: Ids, other: Ids) -> int:
    """Tokens at the beginning that two texts share."""
    n = min(len(one), len(other))
    differ = np.flatnonzero(one[:n] != other[:n])
    return int(differ[0]) if len(differ) else n
