"""Do two models differ on the same items, and is one of them not much worse: tests for pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import binomtest

from coterie.game.coalitions import Vector

RESAMPLES = 10_000
"""Draws of the bootstrap."""

LEVEL = 0.95
"""Of both intervals."""


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same items, the second against the first.

    Attributes:
        items: How many there are.
        first: Mean score of the first model.
        second: Mean score of the second.
        only_first: Items that the first alone has right; None where scores are not right or wrong.
        only_second: Items that the second alone has right.
        p: McNemar's exact two-sided p-value (doi:10.1007/BF02295996); None likewise.
        low: Lower end of the paired bootstrap's 95 % interval of the difference.
        high: Its upper end.
        bound: What the difference is above with 95 % confidence, one-sided: Tango's score bound
            where scores are right or wrong, else the bootstrap's.
    """

    items: int
    first: float
    second: float
    only_first: int | None
    only_second: int | None
    p: float | None
    low: float
    high: float
    bound: float

    @property
    def difference(self) -> float:
        """Second less first."""
        return self.second - self.first

    def not_inferior(self, margin: float) -> bool:
        """Whether the second is shown to be worse by less than the margin, if at all."""
        return self.bound > -margin


def paired_test(first: Vector, second: Vector, *, rng: np.random.Generator) -> PairedTest:
    """Compare two models item by item.

    Args:
        first: Scores of the first model, ``(n_items,)``.
        second: Scores of the second on the same items.
        rng: Draws the resamples of the bootstrap.
    """
    right_or_wrong = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    lost = gained = p = None
    if right_or_wrong:
        lost, gained = int((first > second).sum()), int((second > first).sum())
        # Items on which both agree say nothing; of the others half should fall on each side.
        p = float(binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0
    means = bootstrap_means(second - first, rng)
    low, high, bound = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2, 1 - LEVEL])
    if lost is not None and gained is not None:
        # Resamples of a handful of equal items are all alike, as if there were no doubt.
        bound = score_bound(gained, lost, len(first))
    return PairedTest(
        items=len(first),
        first=float(first.mean()),
        second=float(second.mean()),
        only_first=lost,
        only_second=gained,
        p=p,
        low=float(low),
        high=float(high),
        bound=float(bound),
    )


def score_bound(gained: int, lost: int, items: int) -> float:
    """What a difference of paired shares is above with 95 % confidence.

    The score bound of Tango (1998, Statistics in Medicine 17:891): the difference d at which

        (gained − lost − n d) / √(n (2 q + d (1 − d))) = z,

    q the most likely share of items lost, given d. Of n items on which both agree it is
    −z² / (n + z²).

    Args:
        gained: Items that the second model alone has right.
        lost: Items that the first alone has right.
        items: How many there are.

    >>> round(score_bound(0, 0, 20), 3)
    -0.119
    """
    z, n = float(ndtri(LEVEL)), items

    def above(d: float) -> float:
        b = (2 * n - gained + lost) * d - gained - lost
        q = (np.sqrt(b**2 + 8 * n * lost * d * (1 - d)) - b) / (4 * n)
        return gained - lost - n * d - z * float(np.sqrt(n * (2 * q + d * (1 - d))))

    # At the difference seen both sides may vanish: the bound lies below it.
    seen = (gained - lost) / n - 1e-9
    return -1.0 if above(-1.0) <= 0 else float(brentq(above, -1.0, seen))


def bootstrap_means(values: Vector, rng: np.random.Generator, draws: int = RESAMPLES) -> Vector:
    """Means of resamples with replacement, ``(draws,)``.

    Args:
        values: One number an item, ``(n_items,)``.
        rng: Draws the items.
        draws: How many resamples.
    """
    # How often each different value is drawn is all that a mean depends on.
    kinds, counts = np.unique(values, return_counts=True)
    n, means = len(values), np.empty(draws)
    step = max(1, 2_000_000 // len(kinds))
    for at in range(0, draws, step):
        size = min(step, draws - at)
        means[at : at + size] = rng.multinomial(n, counts / n, size=size) @ kinds / n
    return means


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values that stay valid together, by Holm's step-down rule; None stays None.

    >>> holm([0.01, None, 0.04])
    [0.02, None, 0.04]
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = highest
    return adjusted
