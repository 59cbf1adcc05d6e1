"""One question to a crew: parts are sent, answers gathered, and what fails is asked elsewhere.

Every row is yielded exactly once, whatever happens to workers in between: a row belongs to one part
at a time, and a part to one worker at a time. A worker that is let go is never listened to again.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np

from coterie.engine.cluster.account import CrewAccount
from coterie.engine.cluster.crew import (
    Answered,
    Crew,
    CrewQuestion,
    Failed,
    Left,
    WorkerAnswer,
    WorkerTask,
)
from coterie.engine.cluster.division import Unsent, Work
from coterie.engine.cluster.hands import AskedPart, Hands, deadline
from coterie.engine.cluster.limits import Limits
from coterie.engine.cluster.second_answer import either, holes
from coterie.errors import MachineError
from coterie.game.coalitions import Block, Indices, Observations

NUMBERS = count()
"""Numbers of tasks, of all questions of this process."""

IN_FLIGHT = 2
"""Parts that a worker holds at once: one that it computes, one that waits."""


class Dispatch:
    """Puts one question to a crew.

    Args:
        crew: The workers.
        asked: The question.
        account: Where speeds come from, and where it is written who did what.
        limits: How long workers may take.
        remarks: Where what workers remark goes.
    """

    def __init__(
        self,
        crew: Crew,
        asked: CrewQuestion,
        account: CrewAccount,
        limits: Limits,
        remarks: list[str],
    ) -> None:
        self._crew, self._asked = crew, asked
        self._account, self._limits, self._remarks = account, limits, remarks
        self._work = Work(asked.ordered)
        self._hands: dict[str, Hands] = {}
        self._again: deque[AskedPart] = deque()
        self._left = len(asked.ordered)

    def blocks(self) -> Iterator[Block]:
        """Finished rows, each once, as they become known; rows index into the sorted question.

        Raises:
            MachineError: no worker is left, or a part failed wherever it was asked.
        """
        members = list(self._crew.members())
        speeds = self._account.speeds(members) if members else {"nobody": 1.0}
        self._unsent = Unsent(self._work, speeds, self._limits)
        if not members:
            self._unsent.leave("nobody")
        self._account.needed += self._work.executions
        lonely = self._crew.now()
        try:
            while self._left:
                if self._crew.members():
                    lonely = self._crew.now()
                elif self._crew.now() - lonely >= self._limits.alone:
                    raise MachineError(self._nobody())
                self._hand_out()
                yield from self._what_happens()
        finally:  # the caller may have stopped: nobody waits for what is still out
            self._crew.forget([t.number for hands in self._hands.values() for t, _ in hands.parts])

    def _nobody(self) -> str:
        ends = [f"{did.name}: {did.end}" for did in self._account.workers.values() if did.end]
        last = f" ({ends[-1]})" if ends else ""
        return (
            f"no worker of the cluster is left{last}: what was observed is stored; give it machines"
            " and start the same command again"
        )

    def _what_happens(self) -> Iterator[Block]:
        for event in self._crew.wait(self._until_late()):
            if isinstance(event, Left):
                self._gone(event.worker, event.why)
            elif isinstance(event, Failed):
                self._failed(event)
            else:
                yield from self._answered(event)
        for name in self._late():
            why = f"no answer in {self._crew.now() - self._hands[name].since:.0f} s"
            self._crew.dismiss(name, why)
            self._gone(name, why)

    # Who is asked what.
    def _hand_out(self) -> None:
        members = list(self._crew.members())
        speeds, steals = self._account.speeds(members), True
        # Those that wait come first: a second part may wait until everybody has one.
        for n in range(IN_FLIGHT):
            for name in members:
                hands = self._hands.setdefault(name, Hands())
                if len(hands.parts) != n or (n and self._account.of(name).speed is None):
                    continue
                part = self._part_again(name, members)
                if part is None:
                    idle = steals and n == 0
                    part = self._fresh_part(name, speeds, idle=idle)
                    # What is not worth taking from others for one is not for the next.
                    steals = steals and (part is not None or not idle)
                if part is not None:
                    self._send(name, part)

    def _part_again(self, name: str, members: list[str]) -> AskedPart | None:
        for part in list(self._again):
            # Where every worker has failed on a part, each may try again, until it is too often.
            if name not in part.barred or part.barred.issuperset(members):
                self._again.remove(part)
                return part
        return None

    def _fresh_part(self, name: str, speeds: dict[str, float], *, idle: bool) -> AskedPart | None:
        known = self._account.of(name).speed is not None
        span = self._unsent.take(name, speeds, idle=idle, known=known)
        if span is None:
            return None
        return AskedPart(np.arange(span.start, span.stop), self._work.of(span))

    def _send(self, name: str, part: AskedPart) -> None:
        asked, hands = self._asked, self._hands[name]
        task = WorkerTask(
            number=next(NUMBERS),
            game=asked.game,
            coalitions=asked.ordered[part.rows],
            sequences=asked.sequences,
            work=part.work,
        )
        if not hands.parts:
            hands.since = self._crew.now()
        hands.parts.append((task, part))
        self._crew.send(name, task)

    # What came back.
    def _answered(self, event: Answered) -> Iterator[Block]:
        hands = self._hands.get(event.worker, Hands())
        if (taken := hands.take(event.number, self._crew.now())) is None:
            return
        (task, part), hands.failures = taken, 0
        self._account.note(event.worker, task, event.answer)
        rows, answer = part.rows, event.answer
        if part.doubted is not None:
            answer = self._compared(event.worker, part.doubted, answer)
        others = set(self._crew.members()) - {event.worker}
        broken = holes(answer.seen) > 0
        if part.doubted is None and broken.any() and others:
            self._doubt(event.worker, rows[broken], replace(answer, seen=answer.seen[broken]))
            rows, answer = rows[~broken], replace(answer, seen=answer.seen[~broken], remarks=())
        self._remarks.extend(answer.remarks)
        yield from self._block(rows, answer.seen)

    def _doubt(self, name: str, rows: Indices, answer: WorkerAnswer) -> None:
        """Ask another worker what was not finite: only what two of them find is believed."""
        work = Work(self._asked.ordered[rows]).whole
        self._again.append(AskedPart(rows, work, frozenset({name}), doubted=(name, answer)))

    def _compared(
        self, second: str, doubted: tuple[str, WorkerAnswer], answer: WorkerAnswer
    ) -> WorkerAnswer:
        """Of two answers, every number that either found; where they differ, a fault is told."""
        first, before = doubted
        self._account.repeated += 1
        seen = either(before.seen, answer.seen)
        for name, other, mine in ((first, second, before.seen), (second, first, answer.seen)):
            lacks = holes(mine) != holes(seen)
            if first != second and lacks.any():
                self._fault(
                    f"{name} found no finite number for {int(lacks.sum())} coalitions and {other}"
                    f" did: what {other} found is kept"
                )
        return replace(answer, seen=seen)

    def _block(self, rows: Indices, seen: Observations) -> Iterator[Block]:
        if len(rows):
            self._left -= len(rows)
            yield Block(rows, np.arange(len(self._asked.sequences)), seen)

    # What went wrong.
    def _failed(self, event: Failed) -> None:
        hands = self._hands.get(event.worker, Hands())
        if (taken := hands.take(event.number, self._crew.now())) is None:
            return
        part = taken[1]
        hands.failures += 1
        self._fault(f"{event.worker} could not compute a part ({event.why}): asked again elsewhere")
        self._ask_again(part, event.worker, event.why)
        if hands.failures >= self._limits.tries:
            self._crew.dismiss(event.worker, event.why)
            self._gone(event.worker, event.why)

    def _gone(self, name: str, why: str) -> None:
        self._account.of(name).end = why
        self._unsent.leave(name)
        parts = self._hands.pop(name, Hands()).parts
        asked = f": its {len(parts)} parts were asked again elsewhere" if parts else ""
        self._fault(f"{name} is gone ({why}){asked}")
        for place, (_, part) in enumerate(parts):
            if place == 0:  # what it was computing may be what ended it
                self._ask_again(part, name, why)
            else:
                self._again.append(part)
                self._account.repeated += 1

    def _ask_again(self, part: AskedPart, name: str, why: str) -> None:
        if part.tries + 1 >= self._limits.tries:
            raise MachineError(
                f"{part.tries + 1} workers failed on the same coalitions, the last of them {name}"
                f" ({why}): what was observed is stored; --state-memory bounds what a worker takes"
            )
        self._account.repeated += 1
        self._again.append(replace(part, tries=part.tries + 1, barred=part.barred | {name}))

    def _fault(self, line: str) -> None:
        self._account.fault(line)
        self._remarks.append(line)

    # Who is late.
    def _deadline(self, name: str) -> float:
        hands = self._hands[name]
        return deadline(name, hands, self._account, self._limits) if hands.parts else np.inf

    def _until_late(self) -> float:
        first = min((self._deadline(name) for name in self._hands), default=np.inf)
        return float(min(max(first - self._crew.now(), 1e-3), self._limits.alone))

    def _late(self) -> list[str]:
        return [name for name in self._hands if self._crew.now() >= self._deadline(name)]
