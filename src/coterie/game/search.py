"""Which coalition to keep: searches that propose coalitions and read values back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions, Indices, ValueFunction, Vector
from coterie.game.designs import NO_ONE, check_size, draw_distinct
from coterie.game.sampling import evaluate


@dataclass(frozen=True, eq=False)
class Found:
    """The best coalition a search found, its value, and what it asked for."""

    coalition: Coalition
    value: float
    asked: Coalitions
    """Every distinct coalition whose value was asked, in order."""


def cut_lowest(values: Vector, keep: int, *, locked: Indices = NO_ONE) -> Coalition:
    """Keep ``keep`` players: the locked ones, then those of the highest values.

    Players are cut in ascending order of value, the lower index first where two are equal.
    """
    n_players = len(values)
    check_size(n_players, keep, locked)
    free = np.setdiff1d(np.arange(n_players), locked)
    order = free[np.argsort(values[free], kind="stable")]
    coalition = np.ones(n_players, dtype=bool)
    coalition[order[: n_players - keep]] = False
    return coalition


def greedy(
    value: ValueFunction, n_players: int, keep: int, *, locked: Indices = NO_ONE
) -> list[Found]:
    """Cut the player whose absence hurts least, look again, and repeat: one answer per size.

    That is SLEB's rule (Song et al. 2024, arXiv:2402.09025). The answers run from n − 1 players
    down to ``keep``, each holding what it had asked by then.
    """
    check_size(n_players, keep, locked)
    current = np.ones(n_players, dtype=bool)
    asked = np.zeros((0, n_players), dtype=bool)
    answers = []
    for _ in range(n_players - keep):
        free = np.setdiff1d(np.flatnonzero(current), locked)
        candidates = current & ~np.eye(n_players, dtype=bool)[free]
        values = evaluate(value, candidates)
        asked = np.concatenate([asked, candidates])
        best = int(values.argmax())
        current = candidates[best]
        answers.append(Found(current, float(values[best]), asked))
    return answers


def exhaustive(
    value: ValueFunction,
    n_players: int,
    keeps: Sequence[int],
    *,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> list[Found]:
    """The best coalition of each size, by asking for all of them."""
    answers = []
    for keep in keeps:
        stratum = draw_distinct(n_players, keep, 2**n_players, locked=locked, rng=rng)
        values = evaluate(value, stratum.coalitions)
        best = int(values.argmax())
        answers.append(Found(stratum.coalitions[best], float(values[best]), stratum.coalitions))
    return answers
