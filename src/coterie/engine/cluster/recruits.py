"""Who is taken on: places are reserved while there is room, and whoever loads is compared."""

import time
from collections.abc import Callable
from types import ModuleType

from coterie.engine.cluster.account import CrewAccount
from coterie.engine.cluster.places import Places, Terms, WorkerPlace
from coterie.engine.cluster.worker import Lacking, Loaded

SETTLE = 5.0
"""Seconds in which free machines are found."""

LOADING = 1800.0
"""Seconds in which a worker must have loaded the model."""


class Recruits:
    """The workers of a crew from the first request for room until they are let go.

    Args:
        ray: The library, connected.
        terms: What every worker is given and compared by.
        account: Where it is written what went wrong.
        say: Told who joins.

    Attributes:
        workers: Every worker, ready or not, by name.
        refused: Why some cannot be used, one line each.
        nodes: The nodes of all that were ever ready, by Ray's names, in order.
        places: Where they are reserved.
    """

    def __init__(
        self, ray: ModuleType, terms: Terms, account: CrewAccount, say: Callable[[str], None]
    ) -> None:
        self._terms, self._account, self._say = terms, account, say
        self.places = Places(ray, terms)
        self.workers: dict[str, WorkerPlace] = {}
        self.refused: list[str] = []
        self.nodes: list[str] = []
        self._shipped_to: set[int] = set()
        self._complete = False

    @property
    def needs(self) -> str:
        """What a worker needs, in words."""
        return str(self._terms.needs)

    @property
    def shipped_bytes(self) -> int:
        """Bytes of weights that were brought to nodes, each node once."""
        return self.places.shipped_bytes * len(self._shipped_to)

    def look(self) -> list[WorkerPlace]:
        """Reserve places while there is room, give back those that no node is left for.

        Returns the new ones, which have to load the model.
        """
        now, room = time.monotonic(), self.places.room() - len(self.refused)
        new = [self.places.reserve() for _ in range(room - len(self.workers))]
        self.workers |= {place.name: place for place in new}
        waiting = [place for place in self.workers.values() if not place.node]
        surplus = max(0, len(self.workers) - max(room, 1))
        for place in waiting:
            if not self.places.placed(place):
                place.since = now
                if surplus > 0:
                    surplus -= 1
                    self.release(place)
            elif now - place.since > LOADING:
                self.refuse(place, f"has not loaded the model in {LOADING / 60:.0f} minutes")
        return new

    def settled(self, waited: float) -> bool:
        """Whether every worker that found room is ready, and there is one.

        Args:
            waited: Seconds since room was asked for.
        """
        placed = [place for place in self.workers.values() if self._has_room(place)]
        if len(placed) < len(self.workers) and waited <= SETTLE:
            return False
        self._complete = bool(placed) and all(place.node for place in placed)
        return self._complete

    def starved(self, waited: float) -> bool:
        """Whether no worker has found room.

        Args:
            waited: Seconds since room was asked for.
        """
        return waited > SETTLE and not any(map(self._has_room, self.workers.values()))

    def _has_room(self, place: WorkerPlace) -> bool:
        return bool(place.node) or self.places.placed(place)

    def lacks(self, place: WorkerPlace, loaded: Loaded) -> bool:
        """Whether the model has to be shipped to a worker; one that cannot take it is refused."""
        if not isinstance(loaded.found, Lacking):
            return False
        if not place.shipped and not self._terms.job.stream:
            return True
        self.refuse(
            place,
            f"on {loaded.host} has not got the model ({loaded.found.why}): put its folder there"
            " under the same path, or on a disk that all nodes share",
        )
        return False

    def take(self, place: WorkerPlace, loaded: Loaded) -> bool:
        """Compare a worker with the driver; whether it is taken."""
        if isinstance(loaded.found, Lacking):
            return False
        different = self._terms.driver.difference(loaded.found)
        if different is not None:
            self.refuse(place, f"on {loaded.host} is not like this machine: {different}")
            return False
        if loaded.node not in self.nodes:
            self.nodes.append(loaded.node)
        place.process, place.node = loaded.process, self.nodes.index(loaded.node) + 1
        self._account.of(place.name).node = place.node
        if place.shipped:
            self._shipped_to.add(place.node)
        where = f"node {place.node} ({loaded.host}, process {place.process})"
        self._say(f"{place.name} is ready, on {where}")
        return True

    def refuse(self, place: WorkerPlace, why: str) -> None:
        """A worker that cannot be used: before the first question it ends the run, later not."""
        self.refused.append(f"{place.name} {why}")
        if self._complete:
            self._account.fault(f"{place.name} was not taken: it {why}")
        self.release(place)

    def release(self, place: WorkerPlace) -> None:
        """Let go of a worker."""
        if self.workers.pop(place.name, None) is not None:
            self.places.release(place)
