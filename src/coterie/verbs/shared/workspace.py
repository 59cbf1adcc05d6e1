"""Open everything a run needs: the model, the store, and the games they make together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel

from coterie.engine.batches import Batches
from coterie.engine.interface import Engine
from coterie.errors import UserError
from coterie.game.coalitions import Game
from coterie.models.loaded.load import attention_of
from coterie.models.loaded.stack import Stack
from coterie.plain import Json
from coterie.players import of_blocks
from coterie.store.observations import EVERY_GAME, Store
from coterie.store.sqlite_file import default_path
from coterie.store.stored_game import StoredGame
from coterie.texts.sets import TextSet
from coterie.verbs.shared.opened_model import OpenModel, opened_model
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.settings import locked_blocks
from coterie.verbs.shared.text_game import TextGame, game_facts

WARNINGS = 5
"""Coalitions without a finite loss which are named on the screen, one line each."""


@dataclass(frozen=True, eq=False)
class Workspace:
    """An opened model, and the game it plays on the texts that choose.

    Attributes:
        prepared: What the run was prepared with.
        opened: The model, in memory or on disk.
        calibration: The game on the texts that choose.
        store: Where observations are kept.
    """

    prepared: Prepared
    opened: OpenModel
    calibration: TextGame
    store: Store

    def play(self, texts: TextSet) -> TextGame:
        """The game of this model on some texts."""
        return self.opened.play(texts)

    def play_held_out(self) -> TextGame:
        """The game on the held-out texts, which the search never sees."""
        return self.play(self.prepared.held_out)

    # Opened when asked for: a ranking never needs it.
    def second(self) -> TextGame | None:
        """The game on the texts that decide between finalists; None where there are none."""
        return None if self.prepared.second is None else self.play(self.prepared.second)

    def remembered(self, game: Game, texts: TextSet, how: dict[str, Json]) -> StoredGame:
        """Another game of this model on some texts, behind the store.

        Args:
            game: The game.
            texts: The sequences that coalitions are observed on.
            how: What its observations depend on beside the model and these texts.
        """
        facts = game_facts(self.prepared, self.model, self.stack, texts)
        return StoredGame(game, self.store, self.store.game({**facts, **how}))

    def on(self, prepared: Prepared) -> "Workspace":
        # The weights do not change with the texts, so they are not loaded again.
        """The same model, loaded once, on the texts of another request."""
        return replace(self, prepared=prepared, calibration=self.play(prepared.calibration))

    def in_blocks(self) -> "Workspace":
        """The same model, loaded once; its attention and feed-forward blocks are the players.

        Raises:
            ModelError: its layers are not built of such blocks.
        """
        stay = set(of_blocks(self.locked, "sublayer"))
        n_layers, source = self.stack.n_players, self.prepared.source
        stay |= locked_blocks(self.request, source, n_layers, "sublayer")
        opened = self.opened.in_blocks()
        prepared = replace(self.prepared, n_players=2 * n_layers, locked=tuple(sorted(stay)))
        played = opened.play(prepared.calibration)
        return replace(self, prepared=prepared, opened=opened, calibration=played)

    @property
    def request(self) -> Request:
        """What was asked."""
        return self.prepared.request

    @property
    def engine(self) -> Engine:
        """What evaluates coalitions on the texts that choose."""
        return self.calibration.engine

    @property
    def model(self) -> PreTrainedModel:
        """The model; without weights where these are read from disk."""
        return self.engine.model

    @property
    def stack(self) -> Stack:
        """The players."""
        return self.engine.stack

    @property
    def batches(self) -> Batches | None:
        """The model taken apart, its weights brought from files; None where it is in memory."""
        return self.engine.batches

    @property
    def games(self) -> list[TextGame]:
        """Every game made so far."""
        return self.opened.games

    @property
    def breakdowns(self) -> list[str]:
        """Every coalition so far without a finite loss: on how many texts, and in which layer."""
        found = [remark for one in self.games for remark in one.later_remarks]
        return [remark for remark in found if remark not in self.opened.faults]

    # From the config and from --lock alike.
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
    """Load the model, or open its files, and open the store; the store is closed on the way out.

    Args:
        prepared: Model, texts and settings.
        store: SQLite file of observations; None is the user's cache.
        progress: Told what is being done.
        read_only: Leave the store as it is, there or not.

    Raises:
        UserError: whatever cannot be used, in one line; a store made for it is removed again.
    """
    # Opened first: a store that cannot be read should not cost a loaded model.
    opened_store = Store(default_path() if store is None else store, read_only=read_only)
    try:
        # A name that was begun otherwise is refused before anything is loaded.
        if (study := prepared.request.study) is not None:
            opened_store.claim_study(EVERY_GAME, study, prepared.study_settings())
        # Three ways to hold a model, one interface; nothing below knows which it is.
        with opened_model(prepared, opened_store, progress) as opened:
            calibration = opened.play(prepared.calibration)
            workspace = Workspace(prepared, opened, calibration, opened_store)
            yield workspace
        _warn(workspace.breakdowns, progress)
    # A store made for a run that was refused would only puzzle its owner.
    except UserError:
        opened_store.forget()
        raise
    finally:
        opened_store.close()


def _warn(breakdowns: list[str], progress: Progress) -> None:
    """Say the first of them; a report has them all."""
    for remark in breakdowns[:WARNINGS]:
        # A run with thousands of breakdowns must not bury its answer.
        progress.say(f"warning: {remark}")
    if len(breakdowns) > WARNINGS:
        progress.say(f"warning: {len(breakdowns) - WARNINGS:,} more coalitions broke down")
