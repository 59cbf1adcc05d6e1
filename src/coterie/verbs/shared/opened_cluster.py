"""A model that workers of a Ray cluster play; the driver holds a copy, the store, the search."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from coterie.engine.cluster.account import CrewAccount
from coterie.engine.cluster.cluster_game import ClusterGame
from coterie.engine.cluster.connect import connected
from coterie.engine.cluster.limits import Limits
from coterie.engine.cluster.passport import passport
from coterie.engine.cluster.places import Terms
from coterie.engine.cluster.ray_crew import RayCrew
from coterie.engine.cluster.slots import Needs, needs_on
from coterie.engine.cluster.worker import WorkerJob
from coterie.engine.interface import Engine
from coterie.report.schema.cluster import ClusterPart, WorkerPart
from coterie.store.observations import Store
from coterie.store.stored_game import StoredGame
from coterie.texts.sets import TextSet
from coterie.verbs.shared.opened_model import ModelInMemory, ModelOnDisk, noted_shape
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.text_game import TextGame

log = logging.getLogger(__name__)

GAMES = count(1)
"""Numbers of texts, over all workspaces of this process."""

STREAMED = Limits(floor=600.0, first_answer=6 * 3600.0, whole=True)
"""Where every part reads all weights: one part for each worker, and time to read them."""


class ModelOnCluster:
    """A model whose games are played by workers.

    Args:
        local: The same model on the driver.
        crew: The workers.
        needs: What is reserved for each.
        account: Of the crew.
        limits: How long workers may take.
    """

    def __init__(
        self,
        local: ModelInMemory | ModelOnDisk,
        crew: RayCrew,
        needs: Needs,
        account: CrewAccount,
        limits: Limits,
    ) -> None:
        self.games: list[TextGame] = []
        self._local, self._crew, self._needs = local, crew, needs
        self._account, self._limits = account, limits

    @property
    def faults(self) -> list[str]:
        """What went wrong with workers and was set right."""
        return self._account.faults

    def play(self, texts: TextSet) -> TextGame:
        """The game on some texts, in the batch shape that any earlier run on them had."""
        store, number = self._local.store, self._local.number(texts)
        engine = self._engine(texts, store.note(number, "shape"))
        chosen = engine.shape.to_dict()
        # A store keeps one shape for good; layers that are streamed have that of their device.
        first = store.write_note(number, "shape", chosen) if self._local.chooses else chosen
        if isinstance(first, dict) and first != chosen:  # another run chose while this one did
            engine = self._engine(texts, first)
        for remark in engine.remarks:
            self._local.say(f"warning: {remark}")
        game = StoredGame(engine, store, number)
        self.games.append(TextGame(texts, engine, game, len(engine.remarks)))
        return self.games[-1]

    def in_blocks(self) -> ModelInMemory | ModelOnDisk:
        """The driver's copy, its blocks the players: workers hold whole layers.

        Raises:
            UserError: its blocks cannot be played.
        """
        blocks = self._local.in_blocks()
        blocks.games = self.games
        return blocks

    def _engine(self, texts: TextSet, shape: object) -> Engine:
        game = next(GAMES)
        known = noted_shape(shape, self._local.store)
        opened = self._crew.play(game, texts.tokens, known)
        local = self._local.engine(texts, opened.shape)
        log.info("game %d: %s on %d workers", game, opened.mode, len(self._crew.members()))
        return ClusterGame(local, self._crew, game, self._account, self._limits)

    def cluster_part(self) -> ClusterPart:
        """Who did what, for the record."""
        account = self._account
        workers = [
            WorkerPart(
                name=did.name,
                node=did.node,
                parts=did.parts,
                coalitions=did.coalitions,
                layer_executions=did.spent.layer_executions,
                seconds=did.seconds,
                speed=did.speed,
                end=did.end or None,
            )
            for did in account.workers.values()
        ]
        return ClusterPart(
            worker=str(self._needs),
            nodes=len({worker.node for worker in workers}),
            workers=workers,
            layer_executions=account.spent().layer_executions,
            done_twice=account.twice(),
            asked_again=account.repeated,
            bytes_moved=self._crew.bytes_moved + account.moved(),
            faults=list(account.faults),
        )


@contextmanager
def on_cluster(prepared: Prepared, store: Store, progress: Progress) -> Iterator[ModelOnCluster]:
    """Inside this block, workers of a cluster hold the model; they are freed however it ends.

    Args:
        prepared: The model, its device and its dtype; its request names the cluster.
        store: Where observations go.
        progress: Told what is being done, and what goes wrong.

    Raises:
        UserError: the cluster cannot be used for this model.
    """
    request = prepared.request
    assert request.cluster is not None
    with connected(request.cluster) as ray:
        nodes, device = ray.nodes(), prepared.device.type
        needs = needs_on(nodes, device, request.device, request.worker_cpus)
        local = (ModelOnDisk if request.stream else ModelInMemory)(prepared, store, progress)
        account = CrewAccount(say=progress.say)
        crew = RayCrew(ray, _terms(prepared, needs, local), account, progress.say)
        try:
            progress.say(f"starting workers on the cluster: {needs} for each")
            crew.start()
            limits = STREAMED if request.stream else Limits()
            yield ModelOnCluster(local, crew, needs, account, limits)
        finally:  # Ctrl-C among others: nothing of ours stays on the cluster
            crew.close()


def _terms(prepared: Prepared, needs: Needs, local: ModelInMemory | ModelOnDisk) -> Terms:
    """What every worker is given, and compared by before it is asked anything."""
    source, request = prepared.source, prepared.request
    job = WorkerJob(
        name=source.name,
        folder=str(source.folder),
        revision=source.revision,
        trust_remote_code=source.trust_remote_code,
        dtype=prepared.dtype,
        device=prepared.device.type,
        players=request.player_kind(),
        threads=needs.cpus,
        stream=request.stream,
        state_memory=request.state_memory,
    )
    mine = passport(source.fingerprint(), *local.opened(), prepared.device.type)
    return Terms(job, mine, source, needs)
