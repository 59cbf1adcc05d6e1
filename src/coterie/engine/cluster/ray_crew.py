"""A crew on a Ray cluster: one worker for each GPU, or for so many processors of a node.

What a worker needs is reserved for it alone, so several drivers share a cluster without sharing a
device. Nodes that appear later get workers too, and a worker that is gone is replaced while there
is room.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.engine.batch_shape import BatchShape
from coterie.engine.cluster.account import Account
from coterie.engine.cluster.crew import Answer, Answered, Event, Failed, Left, Task
from coterie.engine.cluster.places import Place, Places, Terms
from coterie.engine.cluster.worker import Lacking, Loaded, Opened
from coterie.errors import MachineError, UserError
from coterie.foreign import reason

POLL = 1.0
"""Seconds of one wait: as often it is looked whether nodes came or went."""

SETTLE, WAITING = 5.0, 600.0
"""Seconds in which free machines are found, and seconds to wait where all are taken."""

Ref = Any
"""What Ray gives for an answer that is not there yet."""


@dataclass(frozen=True, eq=False)
class _Call:
    """What a reference stands for: the method of a worker, and the task or the texts."""

    place: Place
    method: str
    number: int = -1


class RayCrew:
    """Workers on a Ray cluster.

    Args:
        ray: The library, connected.
        terms: What every worker is given and compared by.
        account: Where it is written what went wrong.
        say: Told who joins, and what is waited for.
    """

    def __init__(
        self, ray: ModuleType, terms: Terms, account: Account, say: Callable[[str], None]
    ) -> None:
        self._ray, self._terms, self._account, self._say = ray, terms, account, say
        self._places = Places(ray, terms)
        self._workers: dict[str, Place] = {}
        self._calls: dict[Ref, _Call] = {}
        self._texts: dict[int, tuple[Ref, BatchShape | None]] = {}
        self._opened: dict[tuple[str, int], Opened] = {}
        self._nodes: list[str] = []
        self._refused: list[str] = []
        self._text_bytes = 0
        self._shipped_to: set[int] = set()
        self._started, self._looked = False, -POLL

    # As a dispatch sees it.
    def members(self) -> Sequence[str]:
        """The workers that have loaded the model."""
        return [name for name, place in self._workers.items() if place.node]

    def now(self) -> float:
        """Seconds of a clock that only goes on."""
        return time.monotonic()

    def send(self, worker: str, task: Task) -> None:
        """Ask a worker; it answers in the order in which it was asked."""
        place = self._workers[worker]
        ref = place.actor.ask.remote(task.game, task.coalitions, task.sequences)
        self._calls[ref] = _Call(place, "ask", task.number)

    def forget(self, numbers: Sequence[int]) -> None:
        """Take back what has not begun; what has is finished for nobody."""
        nobodys = set(numbers)
        for ref, call in list(self._calls.items()):
            if call.method == "ask" and call.number in nobodys:
                del self._calls[ref]
                self._ray.cancel(ref)

    def dismiss(self, worker: str, why: str) -> None:
        """Stop a worker; another takes its place where there is room."""
        if (place := self._workers.pop(worker, None)) is not None:
            self._calls = {ref: one for ref, one in self._calls.items() if one.place is not place}
            self._places.release(place)

    def wait(self, seconds: float) -> Sequence[Event]:
        """What has happened, at the latest after so many seconds, or after a poll."""
        self._look()
        seconds = min(seconds, POLL)
        if not self._calls:
            time.sleep(seconds)
            return []
        pending = list(self._calls)
        ready, _ = self._ray.wait(pending, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        events = []
        for ref in ready:
            # Of a worker that is gone, the first reference tells it, and the others went with it.
            if (call := self._calls.pop(ref, None)) is not None:
                events.append(self._happened(ref, call))
        return [event for event in events if event is not None]

    # As a game sees it.
    def start(self) -> None:
        """Reserve, load and compare; returns when all that found room are ready.

        Raises:
            UserError: a worker differs from the driver, or cannot have the model.
            MachineError: there was no room for any worker.
        """
        began, told = self.now(), False
        while True:
            self._outside(self.wait(POLL))
            if self._refused:
                raise UserError(self._refused[0])
            waited = self.now() - began
            placed = [place for place in self._workers.values() if place.placed]
            settled = waited > SETTLE or len(placed) == len(self._workers)
            if placed and settled and all(place.node for place in placed):
                self._started = True
                return
            if placed or waited <= SETTLE:
                continue
            if not told:
                told = True
                self._say(f"waiting for a free machine: a worker needs {self._terms.needs}")
            if waited > WAITING:
                raise MachineError(
                    f"no machine of the cluster became free in {WAITING:.0f} s: a worker needs"
                    f" {self._terms.needs}; add nodes, or ask for less with --worker-cpus"
                )

    def play(self, game: int, tokens: NDArray[np.int64], shape: BatchShape | None) -> Opened:
        """Give the workers texts; the first of them chooses the batch shape if there is none.

        Args:
            game: Number of the texts.
            tokens: Token ids, ``(n_sequences, length)``.
            shape: Batch shape of an earlier run.

        Raises:
            MachineError: no worker is left.
        """
        text = self._ray.put(np.asarray(tokens))
        self._text_bytes += tokens.nbytes
        while True:
            self._texts[game] = text, shape
            first = next(iter(self.members()), None)
            if first is None:
                raise MachineError("no worker of the cluster is left: start the same command again")
            self._open(self._workers[first], game)
            while first in self._workers and (first, game) not in self._opened:
                self._outside(self.wait(POLL))
            if (first, game) in self._opened:
                break
        opened = self._opened[first, game]
        # All others compute in the shape of the first, so that all add in the same order.
        self._texts[game] = text, opened.shape
        for name in self.members():
            if name != first:
                self._open(self._workers[name], game)
        return opened

    @property
    def bytes_moved(self) -> int:
        """Bytes of texts and of shipped weights, each counted once for a node."""
        weights = self._places.shipped_bytes * len(self._shipped_to)
        return self._text_bytes * len(self._nodes) + weights

    def close(self) -> None:
        """Stop all workers, and give back what they reserved."""
        for name in list(self._workers):
            self.dismiss(name, "the run has ended")

    # Who comes and goes.
    def _look(self) -> None:
        """Reserve places while there is room; give those back that no node is left for."""
        if self.now() - self._looked < POLL:
            return
        self._looked = self.now()
        room = self._places.room() - len(self._refused)
        for _ in range(room - len(self._workers)):
            place = self._places.reserve()
            self._workers[place.name] = place
            self._load(place)
        waiting = [p for p in self._workers.values() if not p.node and not p.placed]
        # One place is always kept in the queue of a cluster that has no node yet.
        for place in waiting[: len(self._workers) - max(room, 1)]:
            self.dismiss(place.name, "its node is gone")

    def _load(self, place: Place, *, ship: bool = False) -> None:
        place.shipped = ship
        ref = place.actor.load.remote(self._places.shipped() if ship else None)
        self._calls[ref] = _Call(place, "load")

    def _open(self, place: Place, game: int) -> None:
        text, shape = self._texts[game]
        self._calls[place.actor.play.remote(game, text, shape)] = _Call(place, "play", game)

    def _outside(self, events: Sequence[Event]) -> None:
        """What happens while no question is asked."""
        for event in events:
            if isinstance(event, Left):
                self._account.fault(f"{event.worker} is gone ({event.why})")

    # What comes back.
    def _happened(self, ref: Ref, call: _Call) -> Event | None:
        place = call.place
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            if call.method == "load":
                self._refuse(place, f"cannot be used ({cause(error)})")
                return None
            self.dismiss(place.name, "")
            return Left(place.name, cause(error))
        if isinstance(value, Answer):
            return Answered(place.name, call.number, value)
        if isinstance(value, Opened):
            self._opened[place.name, call.number] = value
        elif isinstance(value, Loaded):
            self._loaded(place, value)
        else:
            return Failed(place.name, call.number, str(value))
        return None

    def _loaded(self, place: Place, loaded: Loaded) -> None:
        found, host = loaded.found, f"on {loaded.host}"
        if isinstance(found, Lacking):
            if place.shipped or self._terms.job.stream:
                self._refuse(
                    place,
                    f"{host} has not got the model ({found.why}): put its folder there under the"
                    " same path, or on a disk that all nodes share",
                )
            else:
                self._load(place, ship=True)
            return
        different = self._terms.driver.difference(found)
        if different is not None:
            self._refuse(place, f"{host} is not like this machine: {different}")
            return
        if loaded.node not in self._nodes:
            self._nodes.append(loaded.node)
        place.process = loaded.process
        place.node = self._nodes.index(loaded.node) + 1
        self._account.of(place.name).node = place.node
        if place.shipped:
            self._shipped_to.add(place.node)
        where = f"node {place.node} ({loaded.host}, process {place.process})"
        self._say(f"{place.name} is ready, on {where}")
        for game in self._texts:
            self._open(place, game)

    def _refuse(self, place: Place, why: str) -> None:
        """A worker that cannot be used: before the first question it ends the run, later not."""
        self._refused.append(f"{place.name} {why}")
        if self._started:
            self._account.fault(f"{place.name} was not taken: it {why}")
        self.dismiss(place.name, why)


def cause(error: BaseException) -> str:
    """Why Ray says that something failed, in a few words."""
    inner = getattr(error, "cause", None)
    if isinstance(inner, BaseException):
        return reason(inner)
    words = str(error)
    missing = next((line for line in words.splitlines() if "No module named" in line), None)
    if missing is not None:
        return f"{missing.strip()}: install the same packages there"
    if "memory" in words.lower() and "OutOfMemory" in type(error).__name__ + words:
        return "its machine ran out of memory"
    return "its process or its machine died"
