"""The last rounds of a search are played repaired, for the best cut before repair is not it after.

What a search without repair has found starts it, beside the cuts that the full model's states say
are likely to mend (`coterie.repair.distances`). Each is repaired before the gaps, as `both` does,
and judged by what it then loses; the best of them are improved by exchanging layers, and decided on
the second texts as well. Which repair is applied in the end is chosen when it is applied.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from coterie.errors import RepairError
from coterie.game.coalitions import Coalitions, Game, Matrix, distinct
from coterie.game.search.decide import Decision, decide
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer
from coterie.plain import Json
from coterie.repair.distances import gap_distances, likely_cuts
from coterie.repair.game import RepairedGame
from coterie.repair.methods.both import BOTH
from coterie.repair.search import swap_search
from coterie.store.stored_game import StoredGame
from coterie.texts.sets import TextSet
from coterie.verbs.search.result import (
    RepairedRounds,
    Search,
    SearchResult,
    ordered,
    remarks_joined,
)
from coterie.verbs.search.timed import ConcatenatedGame, OutOfTime, TimedGame
from coterie.verbs.shared.prepared import fitting_texts
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

ASKED, ASKED_ON_A_GPU = 16, 64
"""Coalitions of a size that are repaired and judged, at most: about five seconds each for a model
of 135 million parameters on two processor cores, a fifth of one on a GPU."""

FOUND = 3
"""Coalitions of a size that start it from the search without repair; the likely ones are half of
all that may be asked."""

AT_ONCE = 4
"""Coalitions that are asked at once where a time may end it."""

REFIT = 1
"""Raised whenever a repair in the game refits differently, so that old facts answer no new one."""

FINALISTS = 3
"""Coalitions of a size that are decided between on the second texts."""


PLAIN_SHARE = 0.6
"""Of the time of a search, what its rounds without repair may take."""


def asked_on(device: str) -> int:
    """Coalitions of a size that are repaired and judged, at most, on this type of device."""
    return ASKED if device == "cpu" else ASKED_ON_A_GPU


def choose_repaired(
    workspace: Workspace, search: Search, found: SearchResult, progress: Progress
) -> SearchResult:
    """What a search has found, looked at again by what each coalition loses once it is repaired.

    Args:
        workspace: The opened model and its texts.
        search: Sizes, and what may win.
        found: The result without repair.
        progress: Told what is being done.

    Returns:
        The same result with the decisions of the repaired game; as it was, with a remark, where the
        model cannot be repaired or the text is too short to refit on.
    """
    began = time.monotonic()
    try:
        rounds = _Rounds.of(workspace, search, found, progress)
        finalists = rounds.searched()
        decisions, union = rounds.decided(finalists)
    except RepairError as reason:
        progress.say(f"warning: searched without repair: {reason}")
        return replace(
            found, remark=remarks_joined(found.remark, f"searched without repair: {reason}")
        )
    took = RepairedRounds(
        rounds.ledger.n_asked, rounds.layer_tokens, time.monotonic() - began, rounds.cut_short
    )
    return replace(
        found,
        decisions=decisions,
        finalists=ordered(finalists),
        union=union,
        remark=remarks_joined(found.remark, took.remark),
        repaired=took,
        out_of_time=found.out_of_time or rounds.cut_short,
        seconds_choosing=found.seconds_choosing + took.seconds,
        not_finite=found.not_finite + union.not_finite,
    )


@dataclass(eq=False)
class _Rounds:
    """The repaired rounds of a search under way."""

    workspace: Workspace
    search: Search
    found: SearchResult
    progress: Progress
    fit: TextSet
    game: RepairedGame
    clock: TimedGame
    ledger: Ledger
    cut_short: bool = False
    second: RepairedGame | None = None

    @property
    def layer_tokens(self) -> int:
        """Executed by both games, refits included."""
        return self.game.layer_tokens + (0 if self.second is None else self.second.layer_tokens)

    @classmethod
    def of(
        cls, workspace: Workspace, search: Search, found: SearchResult, progress: Progress
    ) -> "_Rounds":
        """The game, behind the store, within what is left of the time."""
        fit = fitting_texts(workspace.prepared)
        progress.say("searching on: coalitions are repaired and judged by what they then lose")
        game = _game(workspace, fit, workspace.calibration.texts)
        left = None
        if search.seconds is not None:
            left = max(0.0, search.seconds - found.seconds_choosing)
        clock = TimedGame(
            _remembered(workspace, game, fit, workspace.calibration.texts),
            seconds=left,
            tell=lambda _: None,
        )
        ledger = Ledger(clock, floor=found.ledger.floor)
        return cls(
            workspace=workspace,
            search=search,
            found=found,
            progress=progress,
            fit=fit,
            game=game,
            clock=clock,
            ledger=ledger,
        )

    def searched(self) -> list[Answer]:
        """The best repaired coalitions of each size, and the best of those without repair."""
        finalists = []
        keeps = sorted(set(self.search.keeps), reverse=True)
        distances = gap_distances(self.game.full_states)
        for done, keep in enumerate(keeps):
            self.progress.step("repaired search, sizes", done, len(keeps))
            # The winner without repair is asked whatever the time: with it the answer is known.
            before, seconds = _of_size(self.found, keep), self.clock.seconds
            self.clock.seconds = np.inf
            self.ledger.value(before[:1])
            self.clock.seconds = seconds
            try:
                self._size(keep, before, distances)
            except OutOfTime:
                self.cut_short = True
            coalitions, values = self.ledger.known(keep)
            best = np.argsort(-values, kind="stable")[:FINALISTS]
            finalists += [Answer("repaired", coalitions[at], float(values[at])) for at in best]
            value = float(self.ledger.value(before[:1])[0])
            finalists += [Answer("before repair", before[0], value)]
        return finalists

    def _size(self, keep: int, before: Coalitions, distances: Matrix) -> None:
        most = asked_on(self.workspace.prepared.device.type)
        ledger, locked = self.ledger, self.workspace.locked
        likely = likely_cuts(distances, ledger.n_players - keep, most // 2, locked)
        starts = _allowed(self.search, np.concatenate([before[:FOUND], likely]))
        starts = starts[distinct(starts)[0]]
        if len(starts):
            swap_search(
                ledger,
                starts,
                most=ledger.n_asked + most,
                at_once=len(starts) if self.search.seconds is None else AT_ONCE,
                locked=locked,
                allowed=self.search.may_win,
            )

    def decided(self, finalists: list[Answer]) -> tuple[list[Decision], Ledger]:
        """The finalists decided on the second texts as well, and the account of that."""
        # Few are left: they are asked whatever the time.
        self.clock.seconds = np.inf
        decider: Game = self.clock
        full = np.ones((1, self.ledger.n_players), dtype=bool)
        second = self.workspace.prepared.second
        if second is not None:
            # All that is still to be known of these texts: their states then make room.
            Ledger(self.clock, floor=self.ledger.floor).losses(full)
            self.second = self.game.on(second.tokens)
            decider = ConcatenatedGame(
                self.clock, _remembered(self.workspace, self.second, self.fit, second)
            )
        union = Ledger(decider, floor=self.ledger.floor)
        decisions = decide(union, finalists, self.found.documents)
        union.losses(full)
        return decisions, union


def _remembered(
    workspace: Workspace, game: RepairedGame, fit: TextSet, texts: TextSet
) -> StoredGame:
    """A repaired game behind the store: what was repaired and judged once is known."""
    how: dict[str, Json] = {"repair": game.repair.name, "fit": fit.sha256, "refit": REFIT}
    return workspace.remembered(game, texts, how)


def _of_size(found: SearchResult, keep: int) -> Coalitions:
    """The winner of a size without repair, and the other finalists."""
    own = [answer.coalition for answer in found.finalists if int(answer.coalition.sum()) == keep]
    whole = np.array([found.keep(keep), *own])
    return whole[distinct(whole)[0]]


def _allowed(search: Search, coalitions: Coalitions) -> Coalitions:
    may_win: Callable[[Coalitions], np.ndarray] | None = search.may_win
    return coalitions if may_win is None else coalitions[may_win(coalitions)]


def _game(workspace: Workspace, fit: TextSet, texts: TextSet) -> RepairedGame:
    return RepairedGame(workspace.model, workspace.stack, fit.tokens, texts.tokens, BOTH)
