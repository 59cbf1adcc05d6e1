"""The plain searches: by rank, one shot, greedy, contiguous, by swaps, exhaustive."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions, Indices, Vector
from coterie.game.designs import NO_ONE, all_of_size, check_size
from coterie.game.search.ledger import Ledger
from coterie.game.search.race import Judge, in_full


@dataclass(frozen=True, eq=False)
class Answer:
    """The coalition a method keeps at one size, and its value."""

    method: str
    coalition: Coalition
    value: float


def cut_lowest(values: Vector, keep: int, *, locked: Indices = NO_ONE) -> Coalition:
    """Keep ``keep`` players: the locked ones, then those of the highest values.

    Players are cut in ascending order of value, the lower index first where two are equal.

    Args:
        values: What each player is worth, ``(n_players,)``; of the locked it is not read.
        keep: Kept players, locked ones included.
        locked: Players that stay.

    Examples:
        >>> cut_lowest(np.array([0.5, 0.1, 0.4, 0.2]), keep=2).tolist()
        [True, False, True, False]
    """
    n_players = len(values)
    # An impossible size would silently cut a locked player.
    check_size(n_players, keep, locked)
    free = np.setdiff1d(np.arange(n_players), locked)
    # Stable: the lower index is cut first where two are worth the same.
    order = free[np.argsort(values[free], kind="stable")]
    coalition = np.ones(n_players, dtype=bool)
    coalition[order[: n_players - keep]] = False
    return coalition


def one_shot(ledger: Ledger, keeps: Sequence[int], *, locked: Indices = NO_ONE) -> list[Answer]:
    """Cut those whose absence alone hurts least: Shortened LLaMA's rule (arXiv:2402.02834).

    Args:
        ledger: The account that asks the game.
        keeps: Sizes to answer.
        locked: Players that stay.
    """
    # One absence each: what a player is worth while everyone else is there.
    alone = ledger.value(absences(ledger.n_players, locked=locked))
    return by_absence(ledger, alone, keeps, locked=locked)


def absences(n_players: int, *, locked: Indices = NO_ONE) -> Coalitions:
    """The coalitions that lack one unlocked player each."""
    return ~np.eye(n_players, dtype=bool)[np.setdiff1d(np.arange(n_players), locked)]


def by_absence(
    ledger: Ledger, alone: Vector, keeps: Sequence[int], *, locked: Indices = NO_ONE
) -> list[Answer]:
    """The one-shot answers, given the values of `absences`.

    Args:
        ledger: The account that asks the game.
        alone: Values of `absences`, in their order.
        keeps: Sizes to answer.
        locked: Players that stay.
    """
    # NaN for the locked: cut_lowest never reads them.
    importance = np.full(ledger.n_players, np.nan)
    importance[np.setdiff1d(np.arange(ledger.n_players), locked)] = -alone
    chosen = np.array([cut_lowest(importance, keep, locked=locked) for keep in keeps])
    return answers_of("one-shot", ledger, chosen)


def greedy(
    ledger: Ledger, keeps: Sequence[int], *, locked: Indices = NO_ONE, judge: Judge = in_full
) -> list[Answer]:
    """Cut the player whose absence hurts least, look again, and repeat: SLEB's rule.

    Song et al. 2024, arXiv:2402.09025. One descent answers all sizes.

    Args:
        ledger: The account that asks the game.
        keeps: Sizes to answer.
        locked: Players that stay.
        judge: How candidates are compared.

    Examples:
        >>> from coterie.game.toy import additive
        >>> ledger = Ledger(additive(np.array([0.5, 0.1, 0.4, 0.2])), floor=9.0)
        >>> [answer.coalition.tolist() for answer in greedy(ledger, [3, 2])]
        [[True, False, True, True], [True, False, True, False]]
    """
    n_players = ledger.n_players
    check_size(n_players, min(keeps), locked)
    path = [np.ones(n_players, dtype=bool)]
    # Each step cuts one player of those left; smaller sizes pass through the larger ones.
    while (size := int(path[-1].sum())) > min(keeps):
        free = np.setdiff1d(np.flatnonzero(path[-1]), locked)
        candidates = path[-1] & ~np.eye(n_players, dtype=bool)[free]
        path.append(candidates[judge(ledger, candidates)])
    by_size = dict(zip(range(n_players, size - 1, -1), path, strict=True))
    return answers_of("greedy", ledger, np.array([by_size[keep] for keep in keeps]))


def descent_layers(n_players: int, keep: int, *, n_locked: int = 0) -> int:
    """Layers that a greedy descent to a size asks for on each text.

    Args:
        n_players: Players of the game, locked ones included.
        keep: Kept players, locked ones included.
        n_locked: How many players stay whatever happens.
    """
    return sum((size - n_locked) * (size - 1) for size in range(n_players, keep, -1))


def descent_executed(n_players: int, keep: int, *, n_locked: int = 0) -> int:
    """Layers that an engine runs on each text for a greedy descent, prefixes shared in each step.

    Args:
        n_players: Players of the game, locked ones included.
        keep: Kept players, locked ones included.
        n_locked: How many players stay whatever happens; the last ones, where it costs most.

    Examples:
        >>> descent_executed(3, 2), descent_layers(3, 2)
        (5, 6)
    """
    # Without the p-th of a size's players: those before are shared, the others run for it alone.
    layers = 0
    for size in range(n_players, keep, -1):
        free = size - n_locked
        layers += free - 1 + free * (size - 1) - free * (free - 1) // 2
    return layers


def windows(n_players: int, keep: int, *, locked: Indices = NO_ONE) -> Coalitions:
    """Every coalition of a size that lacks one contiguous run of players.

    Args:
        n_players: Players of the game, locked ones included.
        keep: Kept players, locked ones included.
        locked: Players that stay.
    """
    run = n_players - keep
    starts = np.arange(keep + 1)[:, None]
    # A run is [start, start + run); every start that fits.
    place = np.arange(n_players)
    coalitions = (place < starts) | (place >= starts + run)
    return coalitions[coalitions[:, locked].all(axis=1)]


def contiguous(
    ledger: Ledger, keeps: Sequence[int], *, locked: Indices = NO_ONE, judge: Judge = in_full
) -> list[Answer]:
    """Cut the contiguous run whose absence hurts least (the shape of arXiv:2403.17887's cut).

    A size at which every run holds a locked player has no answer.

    Args:
        ledger: The account that asks the game.
        keeps: Sizes to answer.
        locked: Players that stay.
        judge: How candidates are compared.
    """
    answers = []
    # Runs of different sizes share nothing: each size is a race of its own.
    for keep in keeps:
        candidates = windows(ledger.n_players, keep, locked=locked)
        if len(candidates):
            best = candidates[judge(ledger, candidates)]
            answers += answers_of("contiguous", ledger, best[None])
    return answers


def neighbours(coalition: Coalition, *, locked: Indices = NO_ONE) -> Coalitions:
    """Every coalition that differs by one swap: one player back in, one unlocked player out."""
    inside = np.setdiff1d(np.flatnonzero(coalition), locked)
    outside = np.flatnonzero(~coalition)
    # All pairs (out, in) at once: rows in the order of the two nested loops.
    swapped = np.repeat(coalition[None], len(inside) * len(outside), axis=0)
    rows = np.arange(len(swapped))
    swapped[rows, np.repeat(inside, len(outside))] = False
    swapped[rows, np.tile(outside, len(inside))] = True
    return swapped


def by_swaps(ledger: Ledger, start: Coalition, *, locked: Indices = NO_ONE) -> Answer:
    """Take the best swap for as long as one helps: no single swap improves the answer.

    Args:
        ledger: The account that asks the game.
        start: Where to begin, ``(n_players,)``.
        locked: Players that stay.
    """
    current, value = start, float(ledger.value(start[None])[0])
    while len(around := neighbours(current, locked=locked)):
        values = ledger.value(around)
        # Only a true gain is taken, so the climb ends.
        if values.max() <= value:
            break
        current, value = around[values.argmax()], float(values.max())
    return Answer("swaps", current, value)


def exhaustive(ledger: Ledger, keeps: Sequence[int], *, locked: Indices = NO_ONE) -> list[Answer]:
    """The best coalition of each size, by asking for all of them.

    Args:
        ledger: The account that asks the game.
        keeps: Sizes to answer.
        locked: Players that stay.
    """
    answers = []
    # For small games, and as the truth in tests: the number of candidates explodes.
    for keep in keeps:
        candidates = all_of_size(ledger.n_players, keep, locked=locked)
        best = candidates[ledger.value(candidates).argmax()]
        answers += answers_of("exhaustive", ledger, best[None])
    return answers


def nested(answers: Sequence[Answer]) -> bool:
    """Whether each coalition is inside the next larger one: a front need not be."""
    ordered = sorted(answers, key=lambda answer: int(answer.coalition.sum()))
    return all((small.coalition <= large.coalition).all() for small, large in pairwise(ordered))


def answers_of(method: str, ledger: Ledger, coalitions: Coalitions) -> list[Answer]:
    """The coalitions as answers of a method, valued by the ledger.

    Args:
        method: The method's name.
        ledger: Values them.
        coalitions: ``(n_coalitions, n_players)``.
    """
    values = ledger.value(coalitions)
    # The ledger has met these already: their values cost nothing.
    return [Answer(method, c, float(v)) for c, v in zip(coalitions, values, strict=True)]
