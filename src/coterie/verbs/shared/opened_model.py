"""A model that is ready to be played on texts: loaded, or with its layers on disk."""

import logging
from typing import Protocol

import torch
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.interface import Engine
from coterie.engine.memory import free_bytes
from coterie.engine.replicas import replicated
from coterie.engine.streamed_game import StreamedGame
from coterie.models.files.sources import Source
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import Stack
from coterie.plain import Json
from coterie.report.words import size
from coterie.store.observations import Store
from coterie.store.stored_game import StoredGame
from coterie.texts.sets import TextSet
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.text_game import TextGame, game_facts

log = logging.getLogger(__name__)


class OpenModel(Protocol):
    """A model that is ready to be played on texts, in memory or on disk."""

    # In the order they were opened; reports sum their cost.
    games: list[TextGame]
    """Every game made so far."""

    def play(self, texts: TextSet) -> TextGame:
        """The game of this model on some texts."""
        ...


class ModelInMemory:
    """A loaded model, once on each device.

    Args:
        prepared: The model, its devices and its dtype.
        store: Where observations go.
        progress: Told what is being done.
    """

    def __init__(self, prepared: Prepared, store: Store, progress: Progress) -> None:
        self.games: list[TextGame] = []
        self._prepared, self._store, self._progress = prepared, store, progress
        self._copies = _loaded(prepared, progress)

    def play(self, texts: TextSet) -> TextGame:
        """The game on some texts, in the batch shape that any earlier run on them had."""
        store = self._store
        # By its facts: the same model on the same texts finds its old observations.
        number = store.game(game_facts(self._prepared, *self._copies[0], texts))
        engine = self._engine(texts, store.note(number, "shape"))
        # The last bits of a loss depend on the batch shape, so a store keeps one for good.
        chosen = engine.shape.to_dict()
        first = store.write_note(number, "shape", chosen)
        if isinstance(first, dict) and first != chosen:  # another run chose while this one did
            engine = self._engine(texts, first)
        for remark in engine.remarks:
            self._progress.say(f"warning: {remark}")
        log.info("game %d: %d texts, %s, %s", number, texts.n_sequences, engine.mode, engine.shape)
        game = StoredGame(engine, store, number)
        self.games.append(TextGame(texts, engine, game, len(engine.remarks)))
        return self.games[-1]

    def _engine(self, texts: TextSet, shape: Json) -> Engine:
        """The engine on some texts, in this batch shape if there is one."""
        return replicated(
            self._copies,
            texts.tokens,
            shape=BatchShape.from_dict(shape) if isinstance(shape, dict) else None,
            state_memory=self._prepared.request.state_memory,
        )


class ModelOnDisk:
    """A model whose layers are read from files; the first game learns how it runs, for all.

    Args:
        prepared: The model, its device and its dtype.
        store: Where observations go.
        progress: Told what is being done.
    """

    def __init__(self, prepared: Prepared, store: Store, progress: Progress) -> None:
        self.games: list[TextGame] = []
        self._prepared, self._store, self._progress = prepared, store, progress
        self._first: StreamedGame | None = None

    def play(self, texts: TextSet) -> TextGame:
        """The game on some texts."""
        if self._first is None:
            engine = self._first = self._opened(texts)
        # Files are opened and checked once; later texts share what was learned.
        else:
            engine = self._first.on(texts.tokens)
        facts = game_facts(self._prepared, engine.model, engine.stack, texts)
        # Other batches than in memory: the last bits of a loss are those of streaming.
        number = self._store.game({**facts, "streamed": True})
        log.info("game %d: %d texts, %s", number, texts.n_sequences, engine.mode)
        self.games.append(TextGame(texts, engine, StoredGame(engine, self._store, number)))
        return self.games[-1]

    def _opened(self, texts: TextSet) -> StreamedGame:
        prepared, say = self._prepared, self._progress.say
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
