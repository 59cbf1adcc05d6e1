"""From one number per layer, or one per window of layers, to coalitions."""

from collections.abc import Callable

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Vector
from coterie.game.search.plain import cut_lowest, windows
from coterie.rivals.interface import Chosen, Meter, Selection, Task


def lowest_first(task: Task, meter: Meter, scores: Vector, kept: Indices) -> Chosen:
    """Remove the layers of the lowest scores; a number above what is free is left out, and said.

    Args:
        scores: One number per layer, ``(n_players,)``.
        kept: Players that stay, those of the task included.
        task: What every rival is given.
        meter: Counts what the method runs.
    """
    chosen: Chosen = {}
    for removal, keep in zip(task.removals, task.keeps, strict=True):
        # A size out of reach does not end the method: the others are still answered.
        if removal > task.n_players - len(kept):
            meter.remarks.append(out_of_reach(removal, task.n_players - len(kept)))
            continue
        coalition = cut_lowest(scores, keep, locked=kept)
        chosen[removal] = Selection(coalition[None])
    return chosen


def best_windows(task: Task, meter: Meter, distance: Callable[[int, int], float]) -> Chosen:
    """Remove the contiguous run of layers whose two ends are nearest.

    Args:
        distance: How far apart are the state before layer ``start`` and that ``length`` layers on.
        task: What every rival is given.
        meter: Counts what the method runs.
    """

    def nearest_ends(candidates: Coalitions, removal: int) -> int:
        ends = [distance(start, removal) for start in starts(candidates)]
        return int(np.argmin(ends))

    return by_window(task, meter, nearest_ends)


def by_window(task: Task, meter: Meter, pick: Callable[[Coalitions, int], int]) -> Chosen:
    """Remove one contiguous run of layers for each size.

    Args:
        pick: Given the coalitions that lack one run, and its length, the number of the one to keep.
        task: What every rival is given.
        meter: Counts what the method runs.
    """
    chosen: Chosen = {}
    for removal, keep in zip(task.removals, task.keeps, strict=True):
        # Only runs without a locked layer; there may be none of this length.
        candidates = windows(task.n_players, keep, locked=task.locked)
        if len(candidates):
            chosen[removal] = Selection(candidates[pick(candidates, removal)][None])
        else:
            meter.remarks.append(f"every run of {removal} layers holds a locked one")
    return chosen


def starts(candidates: Coalitions) -> list[int]:
    """The first layer that each coalition lacks."""
    return [int(np.flatnonzero(~row)[0]) for row in candidates]


def with_ends(task: Task, first: int, last: int) -> Indices:
    """The locked players, and so many at either end.

    Args:
        task: What every rival is given.
        first: Layers at the start.
        last: Layers at the end.
    """
    n = task.n_players
    # On a model with few layers the two ends overlap: np.union1d counts each layer once.
    ends = np.r_[np.arange(min(first, n)), np.arange(max(n - last, 0), n)]
    return np.union1d(task.locked, ends).astype(np.intp)


def out_of_reach(removal: int, free: int) -> str:
    """One line for a number of layers that the method cannot remove."""
    return f"{removal} layers cannot be removed: the method leaves {free} to choose from"
