"""Guided search over allocations: which layers to make sparser in exchange for which others.

A level switch makes one unit sparser and another denser by one step, as EvoPress does (Sieberling
et al. 2024, arXiv:2410.14649). EvoPress draws switches blindly; here each round first measures what
every single step up or down costs, pairs the cheapest steps up with the most helpful steps down,
and tries the best one, two, three … pairs together, and a few random ones beside them. Units are
anything that has a level; this page knows no model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Vector

Levels = NDArray[np.intp]
"""Integer array ``(n_candidates, n_units)``: how many steps sparse each unit is."""

Judge = Callable[[Levels, float], Vector]
"""Losses of candidates ``(n_candidates,)`` on a share of the texts; lower is better."""

STRIDES = (3, 2, 1)
"""Steps of a level switch, coarse ones first."""

ROUNDS = 6
"""Most rounds in all; the search also ends when the finest switch brings nothing more."""

SHARE = 0.3
"""Of the texts, that single steps are measured on; whole candidates are judged on all."""

OFFSPRING = 4
"""Random switches tried each round beside the measured ones."""


@dataclass
class Account:
    """What a search asked of the model: each candidate in full, as if nothing were shared."""

    candidates: int = 0
    shares: float = 0.0
    """Candidates weighted with the share of the texts they were judged on."""
    history: list[float] = field(default_factory=list)
    """Loss of the parent, round by round."""


@dataclass(frozen=True, eq=False)
class AllocationSearch:
    """The best allocation met, its loss on the texts that decide, and the account."""

    levels: NDArray[np.intp]
    loss: float
    account: Account


@dataclass(frozen=True, eq=False)
class Space:
    """Which levels there are.

    Attributes:
        weights: Prunable weights of each unit, ``(n_units,)``.
        least: Lowest level of each unit, ``(n_units,)``.
        most: Highest level of each unit, ``(n_units,)``; a unit that is cut has one level only.
    """

    weights: Vector
    least: Levels
    most: Levels

    def allowed(self, candidates: Levels, total: float) -> NDArray[np.bool_]:
        """Which candidates are in range and as sparse in all, to half a step of the largest unit.

        One shift of all units makes up for that in the end; what it is judged by stays near enough.
        """
        inside = ((candidates >= self.least) & (candidates <= self.most)).all(axis=1)
        return inside & (np.abs(candidates @ self.weights - total) <= 0.5 * self.weights.max())

    def switched(
        self, levels: NDArray[np.intp], up: int, down: int, stride: int
    ) -> NDArray[np.intp]:
        """One unit sparser, another denser by as many weights: the larger one by ``stride``.

        Args:
            levels: Of all units, ``(n_units,)``; left alone.
            up: The unit that becomes sparser.
            down: The unit that becomes denser.
            stride: Steps of the larger unit.
        """
        # The smaller unit moves more steps, so that about as many weights change in both.
        larger = max(self.weights[up], self.weights[down])
        child = levels.copy()
        child[up] += max(1, round(stride * larger / self.weights[up]))
        child[down] -= max(1, round(stride * larger / self.weights[down]))
        return child


def most_judged(n_units: int, n_starts: int) -> float:
    """Candidates that a search can come to judge at most, each weighted with its share of texts."""
    singles, pairs = 2 * n_units + 1, n_units // 2
    return n_starts + ROUNDS * (SHARE * singles + pairs + OFFSPRING)


def guided_allocation(
    judge: Judge,
    starts: Levels,
    space: Space,
    *,
    rng: np.random.Generator,
    strides: Sequence[int] = STRIDES,
    rounds: int = ROUNDS,
) -> AllocationSearch:
    """Search from the best of some allocations of equal total; never worse than it.

    Args:
        judge: Called with many candidates at once, so that they can share work.
        starts: Allocations to begin with, ``(n_starts, n_units)``; the first sets the total.
        space: Which levels there are.
        rng: Draws the random switches.
        strides: Steps of a level switch, coarse ones first.
        rounds: Most rounds in all.
    """
    search = _Search(judge, space, float(starts[0] @ space.weights), rng)
    # Losses of allocations with different totals could not be compared.
    starts = np.unique(starts[space.allowed(starts, search.total)], axis=0)
    losses = search.judged(starts)
    parent, loss = starts[int(losses.argmin())], float(losses.min())
    search.account.history.append(loss)
    left = list(strides)
    for _ in range(rounds):
        tried = search.switched(parent, left[0])
        losses = search.judged(tried) if len(tried) else np.array([np.inf])
        if losses.min() < loss:
            parent, loss = tried[int(losses.argmin())], float(losses.min())
            search.account.history.append(loss)
        elif len(left) > 1:
            left.pop(0)  # finer switches, now that coarse ones bring nothing more
        else:
            break
    return AllocationSearch(parent, loss, search.account)


@dataclass(eq=False)
class _Search:
    """One search under way: what it judges by, and what it has asked."""

    judge: Judge
    space: Space
    total: float
    rng: np.random.Generator
    account: Account = field(default_factory=Account)

    def judged(self, candidates: Levels, share: float = 1.0) -> Vector:
        """Losses of candidates on a share of the texts, noted in the account."""
        self.account.candidates += len(candidates)
        self.account.shares += share * len(candidates)
        return self.judge(candidates, share)

    def switched(self, parent: NDArray[np.intp], stride: int) -> Levels:
        """Candidates a few switches away: the measured best pairs, cumulated, and random ones."""
        up, down = self._measured(parent, stride)
        candidates, child, used = [], parent.copy(), np.zeros(len(parent), dtype=bool)
        for one, other in _pairs(up, down):
            if used[one] or used[other]:
                continue
            used[[one, other]] = True
            # Each pair is added to those before it: how many fit together is not known beforehand.
            child = self.space.switched(child, one, other, stride)
            candidates.append(child)
        candidates += [self._random(parent, stride) for _ in range(OFFSPRING)]
        made = np.unique(np.array(candidates), axis=0)
        fresh = (made != parent).any(axis=1)
        return made[fresh & self.space.allowed(made, self.total)]

    def _measured(self, parent: NDArray[np.intp], stride: int) -> tuple[Vector, Vector]:
        """What one step up and one step down of each unit cost, per weight, ``(n_units,)`` each."""
        n_units, space = len(parent), self.space
        # Single steps change the total; only their costs per weight are compared.
        moves = np.concatenate([np.eye(n_units, dtype=np.intp), -np.eye(n_units, dtype=np.intp)])
        single = parent + stride * moves
        possible = ((single >= space.least) & (single <= space.most)).all(axis=1)
        # The parent is judged on the same texts, so that a cost is a difference on equal texts.
        found = self.judged(np.concatenate([parent[None], single[possible]]), SHARE)
        costs = np.full(2 * n_units, np.inf)
        costs[possible] = found[1:] - found[0]
        return costs[:n_units] / space.weights, costs[n_units:] / space.weights

    def _random(self, parent: NDArray[np.intp], stride: int) -> NDArray[np.intp]:
        """One to three random switches, fewer being likelier."""
        n_units, child = len(parent), parent.copy()
        for _ in range(int(min(self.rng.integers(1, 4, size=2)))):
            one, other = self.rng.choice(n_units, 2, replace=False) if n_units > 1 else (0, 0)
            child = self.space.switched(child, one, other, stride)
        return child


def _pairs(up: Vector, down: Vector) -> list[tuple[int, int]]:
    """Units to make sparser and denser, the most gainful first, as long as there is a gain."""
    sparser, denser = np.argsort(up, kind="stable"), np.argsort(down, kind="stable")
    pairs: list[tuple[int, int]] = []
    for one in sparser:
        partner = next(
            (o for o in denser if o != one and all(o not in pair for pair in pairs)), None
        )
        # A pair pays when the step down gains more than the step up costs.
        if partner is None or not up[one] + down[partner] < 0:
            break
        if all(one not in pair for pair in pairs):
            pairs.append((int(one), int(partner)))
    return pairs
