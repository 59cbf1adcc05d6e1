"""A model that is ready to be played on texts: loaded, or with its layers on disk."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Protocol

import torch
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.interface import Engine
from coterie.engine.memory import free_bytes
from coterie.engine.replicas import replicated
from coterie.engine.streamed_game import StreamedGame
from coterie.errors import UserError
from coterie.models.files.sources import Source
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import Stack
from coterie.plain import Json
from coterie.report.schema.cluster import ClusterPart
from coterie.report.words import size
from coterie.store.observations import Store
from coterie.store.sqlite_file import noted_in
from coterie.store.stored_game import StoredGame
from coterie.texts.sets import TextSet
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.text_game import TextGame, game_facts

log = logging.getLogger(__name__)


def noted_shape(shape: object, store: Store) -> BatchShape | None:
    """The batch shape that a store keeps of a game; None where there is none yet.

    Raises:
        UserError: what it keeps is no batch shape.
    """
    with noted_in(store.path):
        return BatchShape.from_dict(shape) if isinstance(shape, dict) else None


class OpenModel(Protocol):
    """A model that is ready to be played on texts, in memory or on disk."""

    # In the order they were opened; reports sum their cost.
    games: list[TextGame]
    """Every game made so far."""

    @property
    def faults(self) -> Sequence[str]:
        """What went wrong with other machines and was set right."""
        ...

    def play(self, texts: TextSet) -> TextGame:
        """The game of this model on some texts."""
        ...

    def cluster_part(self) -> ClusterPart | None:
        """Who did what on a cluster; None where this machine plays alone."""
        ...

    def in_blocks(self) -> "OpenModel":
        """The same model; its attention and feed-forward blocks are the players."""
        ...


class _Alone:
    """What a model says that this machine plays alone."""

    faults: Sequence[str] = ()

    def cluster_part(self) -> None:
        """No other machine did anything."""


class ModelInMemory(_Alone):
    """A loaded model, once on each device.

    Args:
        prepared: The model, its devices and its dtype.
        store: Where observations go.
        progress: Told what is being done.

    Attributes:
        chooses: Whether the batch shape is chosen by trying, and kept.
    """

    chooses = True

    def __init__(self, prepared: Prepared, store: Store, progress: Progress) -> None:
        self.games: list[TextGame] = []
        self._prepared, self.store, self.say = prepared, store, progress.say
        self._copies = _loaded(prepared, progress)

    def in_blocks(self) -> "ModelInMemory":
        """The same weights with other players; what both play is counted together."""
        other = copy(self)
        other._copies = [(model, find_players(model, "sublayer")) for model, _ in self._copies]
        return other

    def opened(self) -> tuple[PreTrainedModel, Stack]:
        """The model and its players, on the first device."""
        return self._copies[0]

    def number(self, texts: TextSet) -> int:
        """Of the game on some texts, in the store."""
        # By its facts: the same model on the same texts finds its old observations.
        return self.store.game(game_facts(self._prepared, *self._copies[0], texts))

    def play(self, texts: TextSet) -> TextGame:
        """The game on some texts, in the batch shape that any earlier run on them had."""
        store, number = self.store, self.number(texts)
        engine = self._stored(texts, store.note(number, "shape"))
        # The last bits of a loss depend on the batch shape, so a store keeps one for good.
        chosen = engine.shape.to_dict()
        first = store.write_note(number, "shape", chosen)
        if isinstance(first, dict) and first != chosen:  # another run chose while this one did
            engine = self._stored(texts, first)
        for remark in engine.remarks:
            self.say(f"warning: {remark}")
        log.info("game %d: %d texts, %s, %s", number, texts.n_sequences, engine.mode, engine.shape)
        game = StoredGame(engine, store, number)
        self.games.append(TextGame(texts, engine, game, len(engine.remarks)))
        return self.games[-1]

    def _stored(self, texts: TextSet, shape: Json) -> Engine:
        return self.engine(texts, noted_shape(shape, self.store))

    def engine(self, texts: TextSet, shape: BatchShape | None) -> Engine:
        """The engine on some texts, in this batch shape if there is one."""
        memory = self._prepared.request.state_memory
        return replicated(self._copies, texts.tokens, shape=shape, state_memory=memory)


class ModelOnDisk(_Alone):
    """A model whose layers are read from files; the first game learns how it runs, for all.

    Args:
        prepared: The model, its device and its dtype.
        store: Where observations go.
        progress: Told what is being done.
    """

    chooses = False

    def __init__(self, prepared: Prepared, store: Store, progress: Progress) -> None:
        self.games: list[TextGame] = []
        self._prepared, self.store, self.say = prepared, store, progress.say
        self._first: StreamedGame | None = None

    def opened(self) -> tuple[PreTrainedModel, Stack]:
        """The model without its weights, and its players."""
        first = self._first or self.engine(self._prepared.calibration)
        return first.model, first.stack

    def number(self, texts: TextSet) -> int:
        """Of the game on some texts, in the store."""
        facts = game_facts(self._prepared, *self.opened(), texts)
        # Other batches than in memory: the last bits of a loss are those of streaming.
        return self.store.game({**facts, "streamed": True})

    def engine(self, texts: TextSet, shape: BatchShape | None = None) -> StreamedGame:
        """The engine on some texts; its batch shape follows from the device."""
        if self._first is None:
            self._first = self._opened(texts)
            return self._first
        # Files are opened and checked once; later texts share what was learned.
        return self._first.on(texts.tokens)

    def play(self, texts: TextSet) -> TextGame:
        """The game on some texts."""
        engine = self.engine(texts)
        number = self.number(texts)
        log.info("game %d: %d texts, %s", number, texts.n_sequences, engine.mode)
        self.games.append(TextGame(texts, engine, StoredGame(engine, self.store, number)))
        return self.games[-1]

    def in_blocks(self) -> "ModelOnDisk":
        """No block is a player by itself where layers are read from disk.

        Raises:
            UserError: always.
        """
        raise UserError("--stream plays whole layers: single blocks need a model in memory")

    def _opened(self, texts: TextSet) -> StreamedGame:
        prepared, say = self._prepared, self.say
        say(f"opening {prepared.source.name} in {name_of(prepared.dtype)}, to be streamed")
        game = StreamedGame(
            prepared.source,
            texts.tokens,
            dtype=prepared.dtype,
            device=prepared.device,
            state_memory=prepared.request.state_memory,
        )
        say(
            f"streaming: every question reads {size(game.pass_bytes)} of layers from disk; methods"
            " that ask in many small questions read them for each, --method paper asks all at once"
        )
        return game


@contextmanager
def opened_model(prepared: Prepared, store: Store, progress: Progress) -> Iterator[OpenModel]:
    """Inside this block, a model is ready to be played: here, from disk, or on a cluster.

    Args:
        prepared: The model, its devices and its dtype.
        store: Where observations go.
        progress: Told what is being done.
    """
    if prepared.request.cluster is not None:
        # Imported when a cluster is asked for.
        from coterie.verbs.shared.opened_cluster import on_cluster

        with on_cluster(prepared, store, progress) as played:
            yield played
    else:
        kind = ModelOnDisk if prepared.request.stream else ModelInMemory
        yield kind(prepared, store, progress)


def _loaded(prepared: Prepared, progress: Progress) -> list[tuple[PreTrainedModel, Stack]]:
    """The model and its players, once on each device."""
    source, dtype, devices = prepared.source, prepared.dtype, prepared.devices
    # Said before loading: what follows may fill the machine's memory.
    for device in dict.fromkeys(devices):
        advice = _advice(source, dtype, device, devices.count(device))
        if advice is not None:
            progress.say(advice)
    if len(devices) > 1:
        each = size(_weight_bytes(source, dtype))
        progress.say(f"a copy of the model on each of {prepared.where}: {each} of weights each")
    copies = []
    for device in devices:
        progress.say(f"loading {source.name} in {name_of(dtype)} on {device}")
        model = load_model(source, dtype=dtype, device=device)
        copies.append((model, find_players(model, prepared.request.player_kind())))
    return copies


def _weight_bytes(source: Source, dtype: torch.dtype) -> int:
    """Bytes that the weights take in memory."""
    return sum(entry.n_values for entry in source.entries) * dtype.itemsize


def _advice(source: Source, dtype: torch.dtype, device: torch.device, copies: int) -> str | None:
    """What to do about a model that does not fit the memory of a device; None where it fits."""
    needed, free = copies * _weight_bytes(source, dtype), free_bytes(device)
    if needed <= free:
        return None
    return (
        f"warning: the weights take {size(needed)} and {device} has {size(free)} free: values,"
        " prune and sparsify read them layer by layer with --stream"
    )
