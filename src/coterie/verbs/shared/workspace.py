"""Open everything a run needs: the model, the store, and the game they make together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.batches import Batches
from coterie.engine.memory import free_bytes
from coterie.engine.model_game import ModelGame
from coterie.engine.replicas import Replicas, replicated
from coterie.engine.streamed_game import StreamedGame
from coterie.errors import UserError
from coterie.models.files.sources import Source
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.load import attention_of, load_model
from coterie.models.loaded.stack import Stack
from coterie.plain import Json
from coterie.report.words import size
from coterie.store.observations import EVERY_GAME, Store, default_path
from coterie.store.stored_game import StoredGame
from coterie.texts.sets import TextSet
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.provenance import versions
from coterie.verbs.shared.request import Request

ENGINE = 1
"""Raised whenever the engine observes differently, so that old facts answer no new question."""


WARNINGS = 5
"""Coalitions without a finite loss which are named on the screen, one line each."""


@dataclass(frozen=True, eq=False)
class TextGame:
    """One model on one set of texts: the engine, and the same behind the store."""

    texts: TextSet
    engine: ModelGame | StreamedGame | Replicas
    game: StoredGame
    said: int = 0
    """Remarks of the engine that were told when it was opened."""

    def known_coalitions(self) -> set[str]:
        """Coalitions the store knows on every sequence, in their text form."""
        return self.game.store.whole(self.game.number, self.texts.n_sequences)


@dataclass(frozen=True, eq=False)
class Workspace:
    """A model that is loaded or streamed, and the game it plays on the texts that choose."""

    prepared: Prepared
    model: PreTrainedModel
    """Without any weights where it is streamed."""
    stack: Stack
    calibration: TextGame
    play: Callable[[TextSet], TextGame]
    """Makes the game of this model on some texts."""
    played: list[TextGame] = field(default_factory=list)
    """Every game made so far."""

    def play_held_out(self) -> TextGame:
        """The game on the held-out texts, which the search never sees."""
        return self.play(self.prepared.held_out)

    def second(self) -> TextGame | None:
        """The game on the texts that decide between finalists; None where there are none."""
        return None if self.prepared.second is None else self.play(self.prepared.second)

    def on(self, prepared: Prepared) -> "Workspace":
        """The same model, loaded once, on the texts of another request."""
        return replace(self, prepared=prepared, calibration=self.play(prepared.calibration))

    @property
    def request(self) -> Request:
        """What was asked."""
        return self.prepared.request

    @property
    def batches(self) -> Batches | None:
        """The model taken apart, its weights brought from files; None where it is in memory."""
        return self.streamed[0].batches if self.streamed else None

    @property
    def streamed(self) -> list[StreamedGame]:
        """The games made so far that read their layers from disk."""
        engines = [one.engine for one in self.played]
        return [engine for engine in engines if isinstance(engine, StreamedGame)]

    @property
    def breakdowns(self) -> list[str]:
        """Every coalition so far without a finite loss: on how many texts, and in which layer."""
        return [remark for one in self.played for remark in one.engine.remarks[one.said :]]

    @property
    def locked(self) -> tuple[int, ...]:
        """Players that stay, whatever the reason."""
        return self.prepared.locked

    @property
    def attention(self) -> str:
        """The attention implementation the model runs with."""
        return attention_of(self.model)


@contextmanager
def open_workspace(
    prepared: Prepared,
    *,
    store: Path | str | None,
    progress: Progress,
    read_only: bool = False,
) -> Iterator[Workspace]:
    """Load the model, or have it streamed, and open the store; the store is closed on the way out.

    Args:
        store: SQLite file of observations; None is the user's cache.
        read_only: Leave the store as it is, there or not.

    Raises:
        UserError: whatever cannot be used, in one line; a store made for it is removed again.
    """
    book = Store(default_path() if store is None else store, read_only=read_only)
    try:
        if (study := prepared.request.study) is not None:
            book.claim_study(EVERY_GAME, study, prepared.identity())
        games: list[TextGame] = []
        play = _player(book, prepared, games, progress)
        calibration = play(prepared.calibration)
        model, stack = calibration.engine.model, calibration.engine.stack
        workspace = Workspace(prepared, model, stack, calibration, play, games)
        yield workspace
        _warn(workspace.breakdowns, progress)
    except UserError:
        book.forget()
        raise
    finally:
        book.close()


def _player(
    book: Store, prepared: Prepared, games: list[TextGame], progress: Progress
) -> Callable[[TextSet], TextGame]:
    """What makes the game on some texts: of one loaded model, or of its files."""
    if prepared.request.stream:

        def stream(texts: TextSet) -> TextGame:
            games.append(_play_streamed(book, prepared, games, texts, progress))
            return games[-1]

        return stream
    copies = _loaded(prepared, progress)

    def play(texts: TextSet) -> TextGame:
        games.append(_play(book, prepared, copies, texts, progress))
        return games[-1]

    return play


def _loaded(prepared: Prepared, progress: Progress) -> list[tuple[PreTrainedModel, Stack]]:
    """The model and its players, once on each device."""
    source, dtype, devices = prepared.source, prepared.dtype, prepared.devices
    for device in dict.fromkeys(devices):
        word = suggestion(source, dtype, device, devices.count(device))
        if word is not None:
            progress.say(word)
    if len(devices) > 1:
        each = size(weight_bytes(source, dtype))
        progress.say(f"a copy of the model on each of {prepared.where}: {each} of weights each")
    copies = []
    for device in devices:
        progress.say(f"loading {source.name} in {name_of(dtype)} on {device}")
        model = load_model(source, dtype=dtype, device=device)
        copies.append((model, find_players(model, prepared.request.player_kind())))
    return copies


def _identity(
    prepared: Prepared, model: PreTrainedModel, stack: Stack, texts: TextSet
) -> dict[str, Json]:
    """What observations on these texts depend on."""
    return {
        "engine": ENGINE,
        "weights": prepared.source.fingerprint(),
        "sequences": texts.sha256,
        "dtype": name_of(prepared.dtype),
        "device": prepared.device.type,
        "attention": attention_of(model),
        "stack": stack.path,
        "players": stack.players,
        "versions": {k: v for k, v in versions().items() if k in ("torch", "transformers")},
    }


def _play_streamed(
    book: Store,
    prepared: Prepared,
    games: list[TextGame],
    texts: TextSet,
    progress: Progress,
) -> TextGame:
    """The first game learns how the model runs; those on other texts go by what it learnt."""
    if games:
        first = games[0].engine
        assert isinstance(first, StreamedGame)
        game = first.on(texts.tokens)
    else:
        progress.say(f"opening {prepared.source.name} in {name_of(prepared.dtype)}, to be streamed")
        game = StreamedGame(
            prepared.source,
            texts.tokens,
            dtype=prepared.dtype,
            device=prepared.device,
            state_memory=prepared.request.state_memory,
        )
        progress.say(told(game))
    # Other batches than in memory: the last bits of a loss are those of streaming.
    facts = {**_identity(prepared, game.model, game.stack, texts), "streamed": True}
    return TextGame(texts, game, StoredGame(game, book, book.game(facts)))


def _play(
    book: Store,
    prepared: Prepared,
    copies: list[tuple[PreTrainedModel, Stack]],
    texts: TextSet,
    progress: Progress,
) -> TextGame:
    number = book.game(_identity(prepared, *copies[0], texts))
    memory = prepared.request.state_memory
    known = book.note(number, "shape")
    shape = BatchShape.from_dict(known) if isinstance(known, dict) else None
    engine = replicated(copies, texts.tokens, shape=shape, state_memory=memory)
    stands = book.write_note(number, "shape", engine.shape.to_dict())
    if isinstance(stands, dict) and stands != engine.shape.to_dict():  # another run was first
        shape = BatchShape.from_dict(stands)
        engine = replicated(copies, texts.tokens, shape=shape, state_memory=memory)
    for remark in engine.remarks:
        progress.say(f"warning: {remark}")
    remembered = StoredGame(engine, book, number)
    return TextGame(texts, engine, remembered, said=len(engine.remarks))


def _warn(breakdowns: list[str], progress: Progress) -> None:
    """Say the first of them; a report has them all."""
    for remark in breakdowns[:WARNINGS]:
        progress.say(f"warning: {remark}")
    if len(breakdowns) > WARNINGS:
        progress.say(f"warning: {len(breakdowns) - WARNINGS:,} more coalitions broke down")


def told(game: StreamedGame) -> str:
    """What a user is told before the first question."""
    return (
        f"streaming: every question reads {size(game.pass_bytes)} of layers from disk; methods that"
        " ask in many small questions read them for each, --method paper asks all at once"
    )


def weight_bytes(source: Source, dtype: torch.dtype) -> int:
    """Bytes that the weights take in memory."""
    return sum(entry.n_values for entry in source.entries) * dtype.itemsize


def suggestion(
    source: Source, dtype: torch.dtype, device: torch.device, copies: int = 1
) -> str | None:
    """A word to whoever loads a model that memory has no room for; None where there is room."""
    needed, free = copies * weight_bytes(source, dtype), free_bytes(device)
    if needed <= free:
        return None
    return (
        f"warning: the weights take {size(needed)} and {device} has {size(free)} free: values,"
        " prune and sparsify read them layer by layer with --stream"
    )
