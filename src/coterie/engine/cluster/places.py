"""Places of workers on a Ray cluster: each a placement group of one bundle, with an actor in it."""

import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from coterie.engine.cluster.passport import Passport
from coterie.engine.cluster.shipping import files_to_ship, pieces
from coterie.engine.cluster.slots import Needs, room
from coterie.engine.cluster.worker import Files, Worker, WorkerJob
from coterie.models.files.sources import Source


@dataclass(frozen=True, eq=False)
class Terms:
    """What is the same for every worker.

    Attributes:
        job: Which model, and how it computes.
        driver: What it must have in common with the driver.
        source: The driver's checkpoint, to be shipped where a node has none.
        needs: What is reserved for it.
    """

    job: WorkerJob
    driver: Passport
    source: Source
    needs: Needs


@dataclass(eq=False)
class WorkerPlace:
    """A worker, or the place reserved for one.

    Attributes:
        name: Of the worker.
        group: Its placement group.
        actor: The worker itself.
        node: Which node it is on, by its number in this run; 0 until it has loaded.
        process: Its number there.
        shipped: Whether it was sent the model.
        since: When what it needs was reserved, by the monotonic clock.
    """

    name: str
    group: Any
    actor: Any
    node: int = 0
    process: int = 0
    shipped: bool = False
    since: float = field(default_factory=time.monotonic)


class Places:
    """Makes places and gives them back.

    Args:
        ray: The library, connected.
        terms: What every worker is given.

    Attributes:
        shipped_bytes: Bytes of the files that were put into the object store.
    """

    def __init__(self, ray: ModuleType, terms: Terms) -> None:
        self._ray, self._terms = ray, terms
        self._actor = ray.remote(Worker)
        self._shipped: Files = ()
        self._made = self.shipped_bytes = 0

    def room(self) -> int:
        """How many workers the cluster has room for, were it free."""
        return room(self._ray.nodes(), self._terms.needs)

    def reserve(self) -> WorkerPlace:
        """A new place; it waits in Ray's own queue until there is room."""
        self._made += 1
        needs = self._terms.needs
        group = self._ray.util.placement_group([needs.bundle()])
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        actor = self._actor.options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_restarts=0,
            scheduling_strategy=strategy(group, placement_group_bundle_index=0),
        ).remote(self._terms.job, self._sharing())
        return WorkerPlace(f"worker {self._made}", group, actor)

    def _sharing(self) -> int:
        """Most workers that any node has room for: so many share its memory."""
        return max(1, max((self._terms.needs.on(node) for node in self._ray.nodes()), default=1))

    def placed(self, place: WorkerPlace) -> bool:
        """Whether what a worker needs is reserved for it, and not only asked for."""
        # Its own `wait` answers no where the cluster is slow to say yes.
        return self._ray.util.placement_group_table(place.group)["state"] == "CREATED"

    def release(self, place: WorkerPlace) -> None:
        """Stop a worker, and give back what was reserved for it."""
        self._ray.kill(place.actor)
        self._ray.util.remove_placement_group(place.group)

    def shipped(self) -> Files:
        """The driver's files in the object store: put there once, brought to a node once."""
        if not self._shipped:
            found = []
            for file in files_to_ship(self._terms.source):
                found.append((file.name, [self._ray.put(piece) for piece in pieces(file)]))
                self.shipped_bytes += file.stat().st_size
            self._shipped = found
        return self._shipped
