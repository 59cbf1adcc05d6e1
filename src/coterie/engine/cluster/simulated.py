"""A crew on a clock of its own: workers that take as long as they are told, and fail on time.

It stands in for a cluster in tests of what happens when workers fail, and in forecasts for more
machines than there are: nothing waits, so an hour of a thousand workers takes seconds.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from coterie.engine.cluster.crew import Answered, Event, Failed, Left, WorkerAnswer, WorkerTask
from coterie.engine.cost import Spent
from coterie.game.coalitions import Game, Observations, observe_all
from coterie.game.prefixes import layers_executed


@dataclass(frozen=True)
class Costs:
    """What a part takes beside its work.

    Attributes:
        part: Seconds of a worker for every part, whatever is in it.
        driver: Seconds of the driver for every part: it can answer one at a time.
        away: Seconds from one machine to another.
    """

    part: float = 0.0
    driver: float = 0.0
    away: float = 0.0


@dataclass(eq=False)
class _Worker:
    """A worker as it is now.

    Attributes:
        speed: Work per second.
        free: When it has done all that it was sent.
        hangs: Whether it answers no more.
        broken: Whether every number it finds is NaN.
        fails: Tasks that it will fail on.
    """

    speed: float
    free: float = 0.0
    hangs: bool = False
    broken: bool = False
    fails: int = 0
    gone: bool = False


@dataclass(order=True)
class _Coming:
    at: float
    place: int
    worker: str = field(compare=False)
    event: Event | str = field(compare=False)


class SimulatedCrew:
    """Workers on a clock of their own.

    Args:
        speeds: Work per second of each worker, by name.
        game: Answers what is asked; None answers zeros, which is enough for a forecast.
        costs: What a part takes beside its work.

    A fault is planned for a moment:

    >>> crew = SimulatedCrew({"first": 10.0, "second": 5.0})
    >>> crew.plan(2.0, "second", "dies")
    >>> crew.wait(5.0), crew.now(), list(crew.members())
    ([Left(worker='second', why='it died')], 2.0, ['first'])
    """

    def __init__(
        self,
        speeds: Mapping[str, float],
        *,
        game: Game | None = None,
        costs: Costs = Costs(),
    ) -> None:
        self._workers = {name: _Worker(speed) for name, speed in speeds.items()}
        self._game, self._costs = game, costs
        self._now, self._driver = 0.0, 0.0
        self._coming: list[_Coming] = []
        self._places = count()

    def plan(self, at: float, worker: str, what: str) -> None:
        """Let something happen to a worker.

        Args:
            at: When, in seconds.
            worker: To whom.
            what: It ``dies``, ``hangs``, ``fails`` on its next task, ``breaks`` (finds no finite
                number from then on), or ``joins`` with the speed of the first.
        """
        heapq.heappush(self._coming, _Coming(at, next(self._places), worker, what))

    def members(self) -> Sequence[str]:
        """The workers that take tasks now."""
        return [name for name, worker in self._workers.items() if not worker.gone]

    def now(self) -> float:
        """Seconds since the beginning."""
        return self._now

    def send(self, worker: str, task: WorkerTask) -> None:
        """Ask a worker; it begins when it is done with what it was sent before."""
        one = self._workers[worker]
        began = max(one.free, self._now + self._costs.away)
        took = self._costs.part + task.work / one.speed
        one.free = began + took
        event: Event
        if one.fails:
            one.fails -= 1
            event = Failed(worker, task.number, "memory ran out")
        else:
            event = Answered(worker, task.number, self._answer(one, task, took))
        at = one.free + self._costs.away
        heapq.heappush(self._coming, _Coming(at, next(self._places), worker, event))

    def _answer(self, worker: _Worker, task: WorkerTask, seconds: float) -> WorkerAnswer:
        shape = len(task.coalitions), len(task.sequences)
        if worker.broken:
            seen = Observations.empty(*shape)
        elif self._game is None:
            seen = Observations(*(np.zeros(shape) for _ in range(3)))
        else:
            seen = observe_all(self._game, task.coalitions, task.sequences)
        ran = layers_executed(task.coalitions)
        return WorkerAnswer(seen, Spent(layer_executions=ran), seconds)

    def wait(self, seconds: float) -> Sequence[Event]:
        """The next event, or none after so many seconds of the crew's clock."""
        until = self._now + seconds
        while self._coming and self._coming[0].at <= until:
            coming = heapq.heappop(self._coming)
            self._now = max(self._now, coming.at)
            worker = self._workers.get(coming.worker)
            if isinstance(coming.event, str):
                happened = self._happens(coming.worker, coming.event)
                if happened is not None or coming.event == "joins":
                    return [happened] if happened is not None else []
            elif worker is not None and not (worker.gone or worker.hangs):
                # One answer after the other: the driver is a machine too.
                self._driver = max(self._driver, self._now) + self._costs.driver
                self._now = self._driver
                return [coming.event]
        self._now = max(self._now, until)
        return []

    def _happens(self, name: str, what: str) -> Event | None:
        if what == "joins":
            self._workers[name] = _Worker(next(iter(self._workers.values())).speed, self._now)
            return None
        worker = self._workers[name]
        if what == "dies" and not worker.gone:
            worker.gone = True
            return Left(name, "it died")
        worker.hangs = worker.hangs or what == "hangs"
        worker.broken = worker.broken or what == "breaks"
        worker.fails += what == "fails"
        return None

    def dismiss(self, worker: str, why: str) -> None:
        """Let go of a worker."""
        self._workers[worker].gone = True

    def forget(self, numbers: Sequence[int]) -> None:
        """Nothing waits in a simulation."""
