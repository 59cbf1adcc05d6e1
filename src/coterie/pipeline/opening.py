"""Open everything a run needs: model, texts, store, and the game they make together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from coterie.errors import TextError, UserError
from coterie.evaluation.batches import Batches
from coterie.evaluation.calibration import TextSet, choose_texts
from coterie.evaluation.engine import ModelGame
from coterie.evaluation.replicas import Replicas, replicated
from coterie.evaluation.shape import BatchShape
from coterie.evaluation.streaming import StreamedGame
from coterie.models.checkpoints import (
    Source,
    attention_of,
    load_model,
    load_tokenizer,
    pick_devices,
    resolve,
)
from coterie.models.disk_names import find_disk_stack
from coterie.models.stack import Stack
from coterie.models.sublayers import find_players
from coterie.pipeline.defaults import context_of, default_calibration, dtype_of, name_of
from coterie.pipeline.provenance import versions
from coterie.pipeline.request import HELD_OUT_SEQUENCES, LENGTH, Request
from coterie.pipeline.settings import check_feasible, check_savable, sketch
from coterie.pipeline.stream import suggestion, told, weight_bytes
from coterie.plain import Json
from coterie.remembered import Remembered
from coterie.report.record import TextPart
from coterie.report.words import size
from coterie.store import EVERY_GAME, Store, default_path

ENGINE = 1
"""Raised whenever the engine observes differently, so that old facts answer no new question."""

WARNINGS = 5
"""Coalitions without a finite loss which are named on the screen, one line each."""


class Progress(Protocol):
    """Where a run says how far it has come."""

    def say(self, line: str) -> None:
        """Print one line."""
        ...

    def step(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage has come."""
        ...


class Silent:
    """No display: what the Python interface uses unless given one."""

    def say(self, line: str) -> None:
        """Nothing."""

    def step(self, stage: str, done: int, total: int) -> None:
        """Nothing."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything about a run that is known before a weight is loaded."""

    request: Request
    source: Source
    locked: tuple[int, ...]
    devices: tuple[torch.device, ...]
    """Of one type; each holds a copy of the model where they are several."""
    dtype: torch.dtype
    dtype_reason: str
    calibration: TextSet
    held_out: TextSet
    second: TextSet | None = None
    """Texts that decide between finalists, beside those that calibrate; none for some methods."""
    pruning: TextSet | None = None
    """The calibration texts and more of them: a pruner measures what layers are given on all, and
    allocations are judged on some; none where nothing of the kind is done."""

    @property
    def measured(self) -> TextSet:
        """The texts that are pruned on: the calibration texts where there are no others."""
        return self.pruning or self.calibration

    @property
    def device(self) -> torch.device:
        """The first device: whatever is not the game runs there."""
        return self.devices[0]

    @property
    def where(self) -> str:
        """All devices, in words."""
        return ", ".join(map(str, self.devices))

    def identity(self) -> dict[str, Json]:
        """What decides the answer: the request, the weights, the texts, the version."""
        asked = self.request.as_json()
        del asked["state_memory"]  # decides how it is run, not what comes out
        if self.request.names_several:  # so does the number of devices
            asked["device"] = self.device.type
        return {
            **asked,
            "weights": self.source.fingerprint(),
            "calibration_sha256": self.calibration.sha256,
            "held_out_sha256": self.held_out.sha256,
            "second_sha256": None if self.second is None else self.second.sha256,
            "coterie": versions()["coterie"],
        }


@dataclass(frozen=True, eq=False)
class Played:
    """One model on one set of texts: the engine, and the same behind the store."""

    texts: TextSet
    engine: ModelGame | StreamedGame | Replicas
    game: Remembered
    said: int = 0
    """Remarks of the engine that were told when it was opened."""

    def known_coalitions(self) -> set[str]:
        """Coalitions the store knows on every sequence, in their text form."""
        return self.game.store.whole(self.game.number, self.texts.n_sequences)


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that is loaded or streamed, and the game it plays on the texts that choose."""

    prepared: Prepared
    model: PreTrainedModel
    """Without any weights where it is streamed."""
    stack: Stack
    calibration: Played
    play: Callable[[TextSet], Played]
    """Makes the game of this model on some texts."""
    played: list[Played] = field(default_factory=list)
    """Every game made so far."""

    def play_held_out(self) -> Played:
        """The game on the held-out texts, which the search never sees."""
        return self.play(self.prepared.held_out)

    def second(self) -> Played | None:
        """The game on the texts that decide between finalists; None where there are none."""
        return None if self.prepared.second is None else self.play(self.prepared.second)

    def on(self, prepared: Prepared) -> "Opened":
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


def prepare(
    request: Request, *, progress: Progress, cutting: bool = False, choosing: bool = True
) -> Prepared:
    """Resolve the model, choose the texts, and refuse whatever needs no weights to be refused.

    Args:
        cutting: A cut follows, so what could not be saved is refused too.
        choosing: Players are chosen from, so there must be some, and a budget that suffices.

    Raises:
        UserError: whatever cannot be used, in one line.
    """
    devices = pick_devices(request.device)
    source = resolve(request.model, request.revision, trust_remote_code=request.trust_remote_code)
    n_players, locked = sketch(request, source)
    if cutting:
        check_savable(request, source, n_players, locked)
    if choosing:
        check_feasible(request, n_players, locked, cutting=cutting)
    find_disk_stack(source.entries, source.config())  # refuses what could not be cut afterwards
    dtype, reason = dtype_of(request.dtype, devices[0])
    progress.say(f"reading texts for {source.name}")
    texts = _texts(request, source, cutting, progress)
    return Prepared(request, source, locked, devices, dtype, reason, *texts)


def _texts(
    request: Request, source: Source, cutting: bool, progress: Progress
) -> tuple[TextSet, TextSet, TextSet | None]:
    """The texts that calibrate, that judge, and that decide between finalists where any do."""
    context, tokenizer = context_of(source), load_tokenizer(source)

    def read(sequences: int) -> tuple[TextSet, TextSet]:
        return choose_texts(
            tokenizer,
            calibration=request.calibration or default_calibration(source),
            held_out=request.held_out,
            sequences=sequences,
            held_out_sequences=HELD_OUT_SEQUENCES,
            length=request.length or min(LENGTH, context or LENGTH),
            rng=np.random.default_rng([request.seed, 1]),
            bos=request.bos_policy(),
            context=context,
        )

    method, sequences = request.plays(cutting=cutting), request.sequences_of(cutting=cutting)
    if method == "paper":
        return *read(sequences), None
    try:
        both, held_out = read(2 * sequences)
    except TextError:
        calibration, held_out = read(sequences)
        second = None
    else:
        calibration, second = divided(both, sequences)
    if second is None:
        progress.say(
            "warning: too little text for a second set: the calibration texts decide alone"
        )
    return calibration, held_out, second


def divided(texts: TextSet, n: int) -> tuple[TextSet, TextSet | None]:
    """Whole documents with the first ``n`` sequences between them, and the rest if there is one."""
    counts = np.bincount(texts.documents)
    # Early documents have the most sequences: every other one keeps the two sides alike.
    order = np.r_[0 : len(counts) : 2, 1 : len(counts) : 2]
    enough = int(np.searchsorted(counts[order].cumsum(), n)) + 1
    first = np.isin(texts.documents, order[:enough])
    rest = ~first
    return texts.some(np.flatnonzero(first)[:n]), (
        texts.some(np.flatnonzero(rest)) if rest.any() else None
    )


@contextmanager
def opened(
    prepared: Prepared,
    *,
    store: Path | str | None,
    progress: Progress,
    read_only: bool = False,
) -> Iterator[Opened]:
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
        games: list[Played] = []
        play = _player(book, prepared, games, progress)
        calibration = play(prepared.calibration)
        model, stack = calibration.engine.model, calibration.engine.stack
        table = Opened(prepared, model, stack, calibration, play, games)
        yield table
        _warn(table.breakdowns, progress)
    except UserError:
        book.forget()
        raise
    finally:
        book.close()


def _player(
    book: Store, prepared: Prepared, games: list[Played], progress: Progress
) -> Callable[[TextSet], Played]:
    """What makes the game on some texts: of one loaded model, or of its files."""
    if prepared.request.stream:

        def stream(texts: TextSet) -> Played:
            games.append(_play_streamed(book, prepared, games, texts, progress))
            return games[-1]

        return stream
    copies = _loaded(prepared, progress)

    def play(texts: TextSet) -> Played:
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
    games: list[Played],
    texts: TextSet,
    progress: Progress,
) -> Played:
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
    return Played(texts, game, Remembered(game, book, book.game(facts)))


def _play(
    book: Store,
    prepared: Prepared,
    copies: list[tuple[PreTrainedModel, Stack]],
    texts: TextSet,
    progress: Progress,
) -> Played:
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
    remembered = Remembered(engine, book, number)
    return Played(texts, engine, remembered, said=len(engine.remarks))


def _warn(breakdowns: list[str], progress: Progress) -> None:
    """Say the first of them; a report has them all."""
    for remark in breakdowns[:WARNINGS]:
        progress.say(f"warning: {remark}")
    if len(breakdowns) > WARNINGS:
        progress.say(f"warning: {len(breakdowns) - WARNINGS:,} more coalitions broke down")


def text_part(texts: TextSet) -> TextPart:
    """A set of sequences as the record names it."""
    return TextPart(
        description=texts.description,
        sha256=texts.sha256,
        sequences=texts.n_sequences,
        length=texts.length,
        documents=len(texts.document_names),
        bos=texts.bos,
    )
