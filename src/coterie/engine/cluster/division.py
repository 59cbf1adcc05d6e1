"""How a question is divided: a stretch of sorted coalitions for each worker, given out in bites.

Coalitions in `prefix_order` that stand next to each other share layers. A cut between two rows
makes whoever takes the second compute once more what both share; so cuts are few, are moved to
where neighbours share least, and are made only where the time that idle workers save is worth it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from coterie.engine.cluster.limits import Limits
from coterie.game.coalitions import Coalitions
from coterie.game.prefixes import common_prefixes, executions

READING = 1.0
"""Work of reading the losses of one coalition, in layers."""

TWICE = 0.03
"""Share of the work that may be done twice for even loads, beyond one stretch for each worker."""

BITE = 1 / 3
"""Share of what is fair that is given out at once; the least where the speed is not known yet."""

SMALLEST = 2.0
"""Least work of a bite, in full models: smaller ones mostly repeat what they share."""

DEAR = 2.0
"""What is done twice beyond that share must save the thief so many times its own time."""

WORTH = 0.05
"""Least share of the time that doubling the number of workers must save."""


class Span(NamedTuple):
    """Rows ``start`` to ``stop`` of the sorted coalitions."""

    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start


class Work:
    """What the rows of a question cost, in layer executions over all texts.

    Args:
        ordered: Distinct coalitions in `prefix_order`.

    Attributes:
        again: What a cut before each row costs: the layers it shares with the row above.
        whole: What all rows cost together.
    """

    def __init__(self, ordered: Coalitions) -> None:
        fresh = executions(ordered)
        self._fresh = fresh
        self.again = ordered.sum(axis=1) - fresh
        self.shared = common_prefixes(ordered)
        self._until = np.concatenate([[0.0], np.cumsum(fresh + READING)])
        self.whole = float(self._until[-1])
        self.executions, self.players = int(fresh.sum()), ordered.shape[1]

    def of(self, span: Span) -> float:
        """The work of a span asked on its own."""
        return float(self._until[span.stop] - self._until[span.start] + self.again[span.start])

    def executions_of(self, span: Span) -> int:
        """Layers that a span asked on its own runs."""
        return int(self._fresh[span.start : span.stop].sum() + self.again[span.start])

    def row_near(self, span: Span, front: float) -> int:
        """The row to cut a span before, so that about ``front`` of its work lies above the cut.

        The row may be a little off where neighbours there share less. The span has two rows.
        """
        wanted = self._until[span.start] - self.again[span.start] + front
        middle = int(np.searchsorted(self._until, wanted))
        middle = min(max(middle, span.start + 1), span.stop - 1)
        # Within a quarter of the smaller side: subtrees of random coalitions are about that wide.
        slack = min(middle - span.start, span.stop - middle) // 4
        low, high = max(span.start + 1, middle - slack), min(span.stop - 1, middle + slack)
        near = np.arange(low, high + 1)
        # Of rows that cost equally little, the one nearest to where the cut was wanted.
        return int(near[np.lexsort((np.abs(near - middle), self.again[low : high + 1]))[0]])


class Unsent:
    """Rows that no worker has been sent yet; each worker has at most one stretch of its own.

    Args:
        work: Of the question.
        speeds: Work per second of each worker, measured or assumed.
        limits: How large a bite may be.

    Attributes:
        again: Work done twice because of cuts so far.
    """

    def __init__(self, work: Work, speeds: Mapping[str, float], limits: Limits) -> None:
        self._work, self._limits = work, limits
        self._own: dict[str, Span] = {}
        self._loose: list[Span] = []
        self.again, self._left = 0.0, work.whole
        everything = Span(0, len(work.again))
        if everything.rows:
            self._own, self.again = first_stretches(work, everything, speeds)
        # What one stretch for each worker costs is the price of working side by side.
        self._allowed = self.again + TWICE * work.whole

    def __bool__(self) -> bool:
        return bool(self._own or self._loose)

    def leave(self, name: str) -> None:
        """A worker is gone: its stretch is anybody's."""
        if (span := self._own.pop(name, None)) is not None:
            self._loose.append(span)

    def take(
        self, name: str, speeds: Mapping[str, float], *, idle: bool, known: bool
    ) -> Span | None:
        """The next bite for a worker, or None where there is none worth taking.

        Args:
            name: Of the worker.
            speeds: Work per second of every worker.
            idle: Whether it has nothing to do: only then may it take from others.
            known: Whether its speed was measured.
        """
        own = self._own.pop(name, None)
        if own is None and self._loose:
            own = max(self._loose, key=self._work.of)
            self._loose.remove(own)
        if own is None and idle and not self._limits.whole:
            own = self._stolen(name, speeds)
        if own is None:
            return None
        # Of all that is left, the part that it would do while everybody works.
        fair = self._left * speeds[name] / sum(speeds.values())
        bite = self._bitten(own, speeds[name], known, fair)
        if bite.stop < own.stop:
            self.again += float(self._work.again[bite.stop])
            self._own[name] = Span(bite.stop, own.stop)
        self._left -= self._work.of(bite)
        return bite

    def _bitten(self, own: Span, speed: float, known: bool, fair: float) -> Span:
        """The first bite of a stretch, of about so much work as is fair."""
        work, limits = self._work.of(own), self._limits
        if limits.whole or own.rows < 2:
            return own
        # Seconds mean nothing before the speed is measured.
        least = max(limits.shortest * speed if known else 0.0, SMALLEST * self._work.players)
        most = limits.longest * speed if known else work
        wanted = min(max(BITE * fair if known else 0.0, least), most)
        if work - wanted < least:
            return own
        row = self._work.row_near(own, wanted)
        if known and self.again + self._work.again[row] > self._allowed:
            # Another cut costs too much: all that is fair at once, if that is not the whole.
            if work <= min(1.5 * fair, most):
                return own
            row = self._work.row_near(own, min(max(fair, least), most))
        return Span(own.start, row)

    def _stolen(self, name: str, speeds: Mapping[str, float]) -> Span | None:
        """The end of the stretch that would take longest, as much as makes both end together."""
        ends = {one: self._work.of(span) / speeds[one] for one, span in self._own.items()}
        if not ends:
            return None
        late = max(ends, key=lambda one: ends[one])
        span = self._own[late]
        left = self._work.of(span)
        if span.rows < 2:
            return None
        share = speeds[late] / (speeds[late] + speeds[name])
        row = self._work.row_near(span, share * left)
        front, back = Span(span.start, row), Span(row, span.stop)
        cost = float(self._work.again[row])
        longest = max(self._work.of(front) / speeds[late], self._work.of(back) / speeds[name])
        saved = ends[late] - longest
        # An idle worker costs nothing else, but what it repeats should buy twice its time.
        beyond = self.again + cost > self._allowed
        if saved <= 0 or (beyond and saved < DEAR * cost / speeds[name]):
            return None
        self.again += cost
        self._own[late] = front
        return back


def first_stretches(
    work: Work, everything: Span, speeds: Mapping[str, float]
) -> tuple[dict[str, Span], float]:
    """One stretch for each worker that is worth having, by speed, and what the cuts cost.

    Args:
        work: Of the question.
        everything: All its rows.
        speeds: Work per second of every worker.
    """
    names = sorted(speeds, key=lambda one: -speeds[one])[: everything.rows]
    best: tuple[dict[str, Span], float] = ({}, 0.0)
    shortest, n = np.inf, 1
    # One, two, four, … workers, the fastest first: more only where that saves time.
    while names:
        few = names[: min(n, len(names))]
        found = _stretches(work, everything, {name: speeds[name] for name in few})
        longest = max(work.of(span) / speeds[name] for name, span in found[0].items())
        if longest > (1 - WORTH) * shortest:
            break
        best, shortest = found, longest
        if n >= len(names):
            break
        n *= 2
    return best


def _stretches(
    work: Work, everything: Span, speeds: Mapping[str, float]
) -> tuple[dict[str, Span], float]:
    """Consecutive stretches whose work is as the speeds; each at least one row."""
    found: dict[str, Span] = {}
    rest, cost, total = everything, 0.0, sum(speeds.values())
    names = list(speeds)
    for place, name in enumerate(names[:-1]):
        behind = len(names) - 1 - place  # each of them needs a row
        share = speeds[name] / total
        row = work.row_near(Span(rest.start, rest.stop - behind + 1), share * work.of(rest))
        found[name], rest = Span(rest.start, row), Span(row, rest.stop)
        cost += float(work.again[row])
        total -= speeds[name]
    found[names[-1]] = rest
    return found, cost
