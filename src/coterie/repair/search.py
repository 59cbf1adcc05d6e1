"""A search on the repaired game that starts from what a search without repair has found.

The best cut before repair is not the best after it: a repair closes one long gap more easily than
many short ones. So the starts are the finalists of a plain search and the contiguous runs, and the
best of them is improved by exchanging one layer that went for one beside a gap.
"""

from collections.abc import Callable

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions
from coterie.game.search.ledger import Ledger


def swap_search(
    ledger: Ledger,
    starts: Coalitions,
    *,
    most: int,
    at_once: int | None = None,
    locked: tuple[int, ...] = (),
    allowed: Callable[[Coalitions], np.ndarray] | None = None,
) -> tuple[Coalition, float]:
    """The best coalition met on the way down from the best of some starts, and its value.

    Args:
        ledger: The account with the repaired game.
        starts: Coalitions of one size, ``(n_starts, n_players)``.
        most: Coalitions that may be asked for in all; the starts are asked for whatever it is.
        at_once: Coalitions of one question, at most; None asks for all of a round together, which
            shares most.
        locked: Players that stay.
        allowed: Which coalitions may be asked at all; all by default.
    """
    size, step = int(starts[0].sum()), at_once or len(starts) + most

    def ask(coalitions: Coalitions) -> None:
        for first in range(0, len(coalitions), step):
            ledger.value(coalitions[first : first + step])

    ask(starts)
    best, value = ledger.best(size)
    while True:
        near = swapped(best, locked)
        near = near if allowed is None else near[allowed(near)]
        near = near[~ledger.asked(near)][: max(0, most - ledger.n_asked)]
        if not len(near):
            return best, value
        ask(near)
        found, lowest = ledger.best(size)
        if lowest <= value:
            return best, value
        best, value = found, lowest


def swapped(coalition: Coalition, locked: tuple[int, ...] = ()) -> Coalitions:
    """Coalitions with one layer of an end of a gap back and one layer beside a gap gone.

    ``(n, n_players)``, those that move an end by one place first; no player of `locked` goes.
    """
    beside = _beside(coalition)
    back = np.flatnonzero(beside & ~coalition)
    gone = np.setdiff1d(np.flatnonzero(beside & coalition), np.array(locked, dtype=int))
    pairs = sorted(((abs(b - g), b, g) for b in back for g in gone), key=lambda pair: pair[0])
    found = np.repeat(coalition[None], len(pairs), axis=0)
    for row, (_, b, g) in zip(found, pairs, strict=True):
        row[b], row[g] = True, False
    return found


def _beside(coalition: Coalition) -> np.ndarray:
    """Players with a neighbour that is kept where they are not, or is not where they are."""
    changes = coalition[1:] != coalition[:-1]
    return np.append(changes, False) | np.append(False, changes)
