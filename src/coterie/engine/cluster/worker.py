"""What runs on another machine: it loads the model, opens texts, and answers parts of questions."""

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.cluster.connect import ray_library
from coterie.engine.cluster.crew import WorkerAnswer
from coterie.engine.cluster.passport import Passport, passport
from coterie.engine.cluster.shipping import receive
from coterie.engine.cost import Spent
from coterie.engine.disk.parameters import empty_model
from coterie.engine.memory import memory_for_states
from coterie.engine.model_game import ModelGame
from coterie.engine.streamed_game import StreamedGame
from coterie.errors import CoterieError, ModelError
from coterie.foreign import reason
from coterie.game.coalitions import Coalitions, Indices, observe_all
from coterie.models.files.places import REFERENCE
from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import Players, Stack
from coterie.scratch import Scratch

Files = Sequence[tuple[str, Sequence[object]]]
"""Files that were shipped: the name of each, and references to its pieces."""


@dataclass(frozen=True)
class WorkerJob:
    """Which model a worker holds, and how it computes.

    Attributes:
        name: As the driver knows the model.
        folder: Where the driver has its files.
        revision: Commit of the Hub, if it is from there.
        trust_remote_code: Whether Python files of the model may be run.
        dtype: What is computed in.
        device: Kind of device.
        players: What a player is.
        threads: Of a worker on a processor.
        stream: Whether layers are read from disk.
        state_memory: Bytes that live states may take; None is half of what is free.
    """

    name: str
    folder: str
    revision: str | None
    trust_remote_code: bool
    dtype: torch.dtype
    device: str
    players: Players
    threads: int
    stream: bool
    state_memory: int | None


@dataclass(frozen=True)
class Lacking:
    """The worker has not got the model; why."""

    why: str


@dataclass(frozen=True)
class Loaded:
    """What a worker loaded, and where it is: the node's name in Ray, its address, the process."""

    found: Passport | Lacking
    node: str
    host: str
    process: int


@dataclass(frozen=True)
class OpenedTexts:
    """How a worker plays some texts."""

    shape: BatchShape
    mode: str


class Worker:
    """Holds the model on one device, and plays it on any number of texts.

    Args:
        job: Which model, and how.
        sharing: Workers that share this machine's memory.
    """

    def __init__(self, job: WorkerJob, sharing: int) -> None:
        self._job, self._sharing = job, sharing
        self._games: dict[int, ModelGame | StreamedGame] = {}
        self._told: dict[int, Spent] = {}
        self._passed: dict[int, int] = {}
        self._model: tuple[PreTrainedModel, Stack] | None = None
        self._source: Source | None = None
        if job.device == "cpu":
            torch.set_num_threads(job.threads)

    def load(self, files: Files | None) -> Loaded:
        """Load the model from this machine's own files, or from those that were shipped.

        Args:
            files: What was shipped; None looks for the model here.
        """
        ray = ray_library()
        node, host = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()
        found: Passport | Lacking
        try:
            found = self._opened(self._own_source()) if files is None else self._taken(files, ray)
        except (CoterieError, OSError) as error:
            found = Lacking(reason(error))
        return Loaded(found, node, host, os.getpid())

    def _taken(self, files: Files, ray: ModuleType) -> Passport:
        # Loaded files are in memory: nothing shipped stays on the disk.
        with Scratch() as aside:
            for name, parts in files:
                receive(aside, name, map(ray.get, parts))
            job = self._job
            return self._opened(Source(job.name, aside, job.revision, job.trust_remote_code))

    def _own_source(self) -> Source:
        job = self._job
        if job.name == REFERENCE:
            return resolve(REFERENCE, trust_remote_code=job.trust_remote_code)
        if job.revision is not None:
            return resolve(job.name, job.revision, trust_remote_code=job.trust_remote_code)
        if not (Path(job.folder) / "config.json").is_file():
            raise ModelError(f"there is no folder {job.folder}")
        return Source(job.name, Path(job.folder), None, job.trust_remote_code)

    def _opened(self, source: Source) -> Passport:
        self._source = source
        job, files = self._job, source.fingerprint()
        if job.stream:
            empty = empty_model(source.config(), job.dtype, trust_remote_code=job.trust_remote_code)
            return passport(files, empty, find_players(empty, job.players), job.device)
        model = load_model(source, dtype=job.dtype, device=job.device)
        self._model = model, find_players(model, job.players)
        return passport(files, *self._model, job.device)

    def play(self, game: int, tokens: NDArray[np.int64], shape: BatchShape | None) -> OpenedTexts:
        """Open texts, to be asked about by their number.

        Args:
            game: Their number.
            tokens: Token ids, ``(n_sequences, length)``.
            shape: Batch shape of the crew; None chooses one.
        """
        tokens = np.array(tokens)  # what comes from the object store cannot be written to
        memory = self._memory()
        made: ModelGame | StreamedGame
        if self._model is not None:
            model, stack = self._model
            made = ModelGame(model, tokens, stack=stack, shape=shape, state_memory=memory)
        else:
            made = self._streamed(tokens, memory)
        self._games[game], self._told[game] = made, Spent()
        return OpenedTexts(made.shape, made.mode)

    def _streamed(self, tokens: NDArray[np.int64], memory: int | None) -> StreamedGame:
        first = next(iter(self._games.values()), None)
        if isinstance(first, StreamedGame):
            return first.on(tokens)
        assert self._source is not None
        return StreamedGame(
            self._source,
            tokens,
            dtype=self._job.dtype,
            device=self._job.device,
            state_memory=memory,
        )

    def _memory(self) -> int | None:
        device, asked = torch.device(self._job.device), self._job.state_memory
        # Workers of one machine see the same free memory: each takes its part of it.
        if device.type != "cpu" or self._sharing < 2:
            return asked
        return max(1, memory_for_states(asked, device) // self._sharing)

    def ask(self, game: int, coalitions: Coalitions, sequences: Indices) -> WorkerAnswer | str:
        """What is observed of some coalitions; or, where it cannot be, why.

        Args:
            game: Number of the texts.
            coalitions: ``(n_coalitions, n_players)``.
            sequences: Numbers of the sequences.
        """
        playing, began = self._games[game], perf_counter()
        said = len(playing.remarks)
        try:
            seen = observe_all(playing, coalitions, sequences)
        except Exception as error:  # of torch, of the system, or ours: another worker may manage
            return reason(error)
        # The account goes on; what is told is what came since the last answer.
        spent, traffic = copy(playing.spent), playing.traffic
        before, self._told[game] = self._told[game], spent
        passed = 0 if traffic is None else traffic.passes
        new, self._passed[game] = passed - self._passed.get(game, 0), passed
        return WorkerAnswer(
            seen=seen,
            spent=spent - before,
            seconds=perf_counter() - began,
            remarks=playing.remarks[said:],
            passes=new,
            bytes_read=0 if traffic is None else traffic.bytes_read,
        )
