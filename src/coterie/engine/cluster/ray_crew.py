"""A crew on a Ray cluster: one worker for each GPU, or for so many processors of a node.

What a worker needs is reserved for it alone, so several drivers share a cluster without sharing a
device. Nodes that appear later get workers too, and a worker that is gone is replaced while there
is room.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.engine.batch_shape import BatchShape
from coterie.engine.cluster.account import CrewAccount
from coterie.engine.cluster.crew import Answered, Event, Failed, Left, WorkerAnswer, WorkerTask
from coterie.engine.cluster.failures import cause
from coterie.engine.cluster.places import Terms, WorkerPlace
from coterie.engine.cluster.recruits import Recruits
from coterie.engine.cluster.worker import Loaded, OpenedTexts
from coterie.errors import MachineError, UserError

POLL = 1.0
"""Seconds of one wait: as often it is looked whether nodes came or went."""

WAITING = 600.0
"""Seconds to wait where all machines are taken."""

Ref = Any
"""What Ray gives for an answer that is not there yet."""


@dataclass(frozen=True, eq=False)
class _Call:
    """What a reference stands for: the method of a worker, and the task or the texts."""

    place: WorkerPlace
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
        self, ray: ModuleType, terms: Terms, account: CrewAccount, say: Callable[[str], None]
    ) -> None:
        self._ray, self._account, self._say = ray, account, say
        self._recruits = Recruits(ray, terms, account, say)
        self._calls: dict[Ref, _Call] = {}
        self._texts: dict[int, tuple[Ref, BatchShape | None]] = {}
        self._opened: dict[tuple[str, int], OpenedTexts] = {}
        self._text_bytes, self._looked = 0, -POLL

    @property
    def workers(self) -> Mapping[str, WorkerPlace]:
        """Every worker, ready or not, by name."""
        return self._recruits.workers

    # As a dispatch sees it.
    def members(self) -> Sequence[str]:
        """The workers that have loaded the model."""
        return [name for name, place in self.workers.items() if place.node]

    def now(self) -> float:
        """Seconds of a clock that only goes on."""
        return time.monotonic()

    def send(self, worker: str, task: WorkerTask) -> None:
        """Ask a worker; it answers in the order in which it was asked."""
        place = self.workers[worker]
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
        if (place := self.workers.get(worker)) is not None:
            self._recruits.release(place)
            self._forget_the_gone()

    def _forget_the_gone(self) -> None:
        there = set(map(id, self.workers.values()))
        self._calls = {ref: one for ref, one in self._calls.items() if id(one.place) in there}

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
        while not self._recruits.settled(self.now() - began):
            self._outside(self.wait(POLL))
            if self._recruits.refused:
                raise UserError(self._recruits.refused[0])
            waited, needs = self.now() - began, self._recruits.needs
            if not self._recruits.starved(waited):
                continue
            if not told:
                told = True
                self._say(f"waiting for a free machine: a worker needs {needs}")
            if waited > WAITING:
                raise MachineError(
                    f"no machine of the cluster became free in {WAITING:.0f} s: a worker needs"
                    f" {needs}; add nodes, or ask for less with --worker-cpus"
                )

    def play(self, game: int, tokens: NDArray[np.int64], shape: BatchShape | None) -> OpenedTexts:
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
                last = f" ({self._account.faults[-1]})" if self._account.faults else ""
                raise MachineError(f"no worker of the cluster can play the texts{last}")
            self._open(self.workers[first], game)
            while first in self.workers and (first, game) not in self._opened:
                self._outside(self.wait(POLL))
            if (first, game) in self._opened:
                break
        opened = self._opened[first, game]
        # All others compute in the shape of the first, so that all add in the same order.
        self._texts[game] = text, opened.shape
        for name in self.members():
            if name != first:
                self._open(self.workers[name], game)
        return opened

    @property
    def bytes_moved(self) -> int:
        """Bytes of texts and of shipped weights, each counted once for a node."""
        return self._text_bytes * len(self._recruits.nodes) + self._recruits.shipped_bytes

    def close(self) -> None:
        """Stop all workers, and give back what they reserved."""
        for name in list(self.workers):
            self.dismiss(name, "the run has ended")

    # Who comes and goes.
    def _look(self) -> None:
        if self.now() - self._looked >= POLL:
            self._looked = self.now()
            for place in self._recruits.look():
                self._load(place)
            self._forget_the_gone()

    def _load(self, place: WorkerPlace, *, ship: bool = False) -> None:
        place.shipped = ship
        ref = place.actor.load.remote(self._recruits.places.shipped() if ship else None)
        self._calls[ref] = _Call(place, "load")

    def _open(self, place: WorkerPlace, game: int) -> None:
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
                self._recruits.refuse(place, f"cannot be used ({cause(error)})")
                self._forget_the_gone()
                return None
            self.dismiss(place.name, "")
            return Left(place.name, cause(error))
        if isinstance(value, WorkerAnswer):
            return Answered(place.name, call.number, value)
        if isinstance(value, OpenedTexts):
            self._opened[place.name, call.number] = value
        elif isinstance(value, Loaded):
            self._loaded(place, value)
        else:
            return Failed(place.name, call.number, str(value))
        return None

    def _loaded(self, place: WorkerPlace, loaded: Loaded) -> None:
        if self._recruits.lacks(place, loaded):
            self._load(place, ship=True)
        elif self._recruits.take(place, loaded):
            for game in self._texts:
                self._open(place, game)
        self._forget_the_gone()
