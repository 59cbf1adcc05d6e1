"""Which weights go, once every weight has a score: so many of a matrix, of a row, of a group.

Counts are rounded so that nothing adds up: over any first rows (or columns) of a map the zeros are
within half a weight of what was asked, so each row is within one weight of it and so is the map.
Ties go to the lower index.
"""

import math

import torch
from torch import Tensor

from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.levels import Level, Pattern, share


def check_level(level: Level, width: int, where: str) -> None:
    """Refuse a level that a map with ``width`` inputs cannot have.

    Args:
        level: How sparse the map should become.
        width: Its inputs.
        where: What it is called in the message.

    Raises:
        SparsityError: A share outside [0, 1), or a pattern whose groups do not fill a row.
    """
    if isinstance(level, Pattern):
        if width % level.m:
            raise SparsityError(
                f"{where} has {width} inputs, which groups of {level.m} do not divide: {level}"
                " does not fit there, so give a share such as 0.5, or another pattern"
            )
    elif not 0 <= level < 1:
        raise SparsityError(f"sparsity {level:g} of {where} must lie in [0, 1): a share of zeros")


def cumulative(sparsity: float, total: int, stops: list[int]) -> list[int]:
    """Zeros among the first ``stop / stops[-1]`` of ``total`` weights, for each stop, rounded.

    Args:
        sparsity: Share of zeros.
        total: Weights in all.
        stops: Ascending; the last stands for all of them.

    >>> cumulative(0.5, 15, [1, 2, 3])
    [3, 5, 8]
    """
    # Totals are rounded, not single counts, so errors do not add up; halves go up.
    return [math.floor(sparsity * total * stop / stops[-1] + 0.5) for stop in stops]


def row_counts(sparsity: float, rows: int, width: int) -> Tensor:
    """How many weights go in each row, ``(rows,)``: each within one of ``sparsity * width``.

    Args:
        sparsity: Share of zeros.
        rows: Outputs of the map.
        width: Its inputs.
    """
    ends = cumulative(sparsity, rows * width, list(range(1, rows + 1)))
    return torch.diff(torch.tensor(ends), prepend=torch.tensor([0]))


def lowest(scores: Tensor, count: int) -> Tensor:
    """Boolean like ``scores``: the ``count`` lowest of all."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    # A stable sort settles ties by position, the same on every machine.
    mask[torch.argsort(scores.flatten(), stable=True)[:count]] = True
    return mask.view(scores.shape)


def lowest_in_rows(scores: Tensor, counts: Tensor) -> Tensor:
    """Boolean ``(rows, width)``: the ``counts[r]`` lowest of each row."""
    order = torch.argsort(scores, dim=1, stable=True)
    # Marks the first places in the order of a row; scatter carries them to the weights.
    first = torch.arange(scores.shape[1], device=scores.device) < counts.to(scores.device)[:, None]
    return torch.zeros_like(first).scatter_(1, order, first)


def lowest_in_groups(scores: Tensor, pattern: Pattern) -> Tensor:
    """Boolean ``(rows, width)``: all but the ``n`` highest of every ``m`` neighbours."""
    groups = scores.reshape(-1, pattern.m)
    counts = torch.full((len(groups),), pattern.m - pattern.n)
    return lowest_in_rows(groups, counts).view(scores.shape)


def per_row(scores: Tensor, level: Level) -> Tensor:
    """The weights that go when every row loses the same share, ``(rows, width)``."""
    if isinstance(level, Pattern):
        return lowest_in_groups(scores, level)
    return lowest_in_rows(scores, row_counts(level, *scores.shape))


def per_matrix(scores: Tensor, level: Level) -> Tensor:
    """The weights that go when they are compared across the whole map, ``(rows, width)``."""
    if isinstance(level, Pattern):
        return lowest_in_groups(scores, level)
    return lowest(scores, math.floor(share(level) * scores.numel() + 0.5))
