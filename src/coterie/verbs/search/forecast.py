"""The work of a search and how long a run takes, stated before anything is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from coterie.engine.cost import plan
from coterie.engine.interface import Seconds
from coterie.game.coalitions import Coalitions, to_text
from coterie.game.search.methods import SEARCH_METHODS
from coterie.game.search.plain import descent_executed, descent_layers
from coterie.game.search.race import least_texts
from coterie.report.schema.plan import PlannedTimePart, PlanPart
from coterie.scores.generation import LEAST, SECONDS, prompts_of
from coterie.texts.sets import TextSet
from coterie.verbs.search.choose import FINALISTS
from coterie.verbs.shared.settings import task_of
from coterie.verbs.shared.workspace import Workspace

EXPECTED_SHARE = 0.7
"""Share of the most that a search without a budget runs before its rounds no longer improve."""

WHEN_TIME_ENDS = 2
"""Finalists that are expected where a time bounds the search."""

ONE_BY_ONE = 2.0
"""Times as long that a token takes which is written as one that is read among many."""


@dataclass(frozen=True)
class Opened:
    """How long it took to come to the plan.

    Attributes:
        seconds: Choosing texts, reading the weights, taking the model apart.
        loading: The part of it in which weights were read.
        setting_up: The part of it in which the model was taken apart on some texts.
    """

    seconds: float
    loading: float
    setting_up: float


@dataclass(frozen=True)
class Forecast:
    """What parts of a run take, by the seconds of a coalition on the calibration texts.

    Attributes:
        workspace: The opened model and its texts.
        each: Seconds of a layer, and of the rest, of one coalition on the calibration texts.
        opened: How long it took to come here.
        keep: Players of the smallest cut.
    """

    workspace: Workspace
    each: Seconds
    opened: Opened
    keep: int

    def observing(self, texts: TextSet, *coalitions: int) -> float:
        """Seconds of coalitions of so many players on some texts, the full model beside them."""
        sizes = (self.workspace.stack.n_players, *coalitions)
        return self._running(texts.tokens.size, *sizes) / self.workspace.engine.at_once

    def _running(self, tokens: float, *sizes: int) -> float:
        """Seconds of coalitions of so many players on so many tokens, on one device."""
        whole = sum(size * self.each.layer + self.each.rest for size in sizes)
        return tokens / self._calibration.tokens.size * whole

    @property
    def _calibration(self) -> TextSet:
        return self.workspace.calibration.texts

    def opening(self) -> PlannedTimePart:
        """What has been done by now; the run does it again."""
        return PlannedTimePart("preparing and loading", self.opened.seconds, self.opened.seconds)

    def searching(self, part: PlanPart) -> PlannedTimePart:
        """The search, within its time."""
        request, n_players = self.workspace.request, self.workspace.stack.n_players
        expected = part.seconds
        if part.at_most:
            # A budget is asked at full price; what engines share of it is what a descent shares.
            sizes = n_players, min(self.keep, n_players - 1)
            shared = descent_executed(*sizes) / max(1, descent_layers(*sizes))
            expected *= EXPECTED_SHARE if request.budget is None else shared
        limit = inf
        if request.time is not None:
            # One-shot's round is asked whatever the time: absences on few texts, one answer on all.
            few = least_texts(self._calibration.n_sequences) / self._calibration.n_sequences
            first = few * n_players * (n_players * self.each.layer + self.each.rest)
            limit = max(request.time, first) + self.observing(self._calibration, self.keep)
        return PlannedTimePart("searching", min(expected, limit), min(part.seconds, limit))

    def deciding(self) -> list[PlannedTimePart]:
        """The finalists on the texts that decide; nothing where a method has one answer."""
        request, second = self.workspace.request, self.workspace.prepared.second
        if second is None or SEARCH_METHODS[request.plays()].ranks:
            return []
        # Where the time ends a search, one-shot's cut and the best known are all there is.
        few = FINALISTS if request.time is None else WHEN_TIME_ENDS
        expected, most = (
            self.opened.setting_up + self.observing(second, *([self.keep] * many))
            for many in (few, FINALISTS)
        )
        return [PlannedTimePart("deciding between finalists", expected, most)]

    def judging(self) -> PlannedTimePart:
        """Full and cut model on the held-out texts, and what both write."""
        seconds = self.observing(self.workspace.prepared.held_out, self.keep) + self._writing_on()
        return PlannedTimePart("judging", *[self.opened.setting_up + seconds] * 2)

    def _writing_on(self) -> float:
        """Seconds in which both models continue texts, and the full one reads what they wrote."""
        prepared = self.workspace.prepared
        prompts = prompts_of(prepared.held_out, prepared.recipe.tokenizer)
        if prompts is None or self.workspace.batches is not None:
            return 0.0
        (n, length), new, full = (
            prompts.ids.shape,
            prompts.new_tokens,
            self.workspace.stack.n_players,
        )
        reading = self._running(2 * n * (length + new), full)
        for size in (full, self.keep):
            whole = self._running(n * (length + ONE_BY_ONE * new), size)
            reading += min(whole, max(SECONDS, whole * LEAST / new))
        return reading

    def writing(self) -> PlannedTimePart:
        """The checkpoint is written, read again with plain transformers, and compared."""
        share = self.keep / self.workspace.stack.n_players
        seconds = (1 + share) * self.opened.loading + self.opened.setting_up
        return PlannedTimePart("writing and checking", seconds, seconds)


def with_times(part: PlanPart, times: Sequence[PlannedTimePart]) -> PlanPart:
    """A plan with the time of every part of the run, and of all together."""
    part.times = list(times)
    part.expected_seconds = sum(one.expected for one in times)
    part.most_seconds = sum(one.most for one in times)
    return part


def search_work(
    workspace: Workspace,
    keeps: tuple[int, ...],
    seconds: Seconds,
    *,
    method: str | None = None,
    times: int = 1,
) -> PlanPart:
    """The work of a method, for some sizes.

    Args:
        workspace: The opened model and its texts.
        keeps: Players that will be left, of every size; the fewest last.
        seconds: Of each layer, and of the rest, of one coalition on the texts.
        method: Its name; None is the method that the request plays.
        times: How many times that work, where it goes on among other players.
    """
    request, keep = workspace.request, keeps[-1]
    played = SEARCH_METHODS[method or request.plays()]
    task = task_of(request, workspace.stack.n_players, workspace.locked, keeps)
    asked = played.known_beforehand(task)
    # Methods that draw a design first can say exactly what they will ask.
    if asked is not None:
        return _of_design(workspace, asked, keep, seconds)
    n_sequences = workspace.calibration.texts.n_sequences
    asks = played.most_layer_sequences(task, n_sequences)
    runs = min(asks, played.most_executed(task, n_sequences))
    part = _of_search(workspace, times * asks, times * runs, keep)
    if request.budget is not None:  # a cheap coalition may be asked on fewer layers than the mean
        part.distinct = min(part.distinct, times * request.budget)
    part.seconds = _lasting(workspace, part, seconds)
    return part


def _of_design(workspace: Workspace, asked: Coalitions, keep: int, seconds: Seconds) -> PlanPart:
    """A design that is drawn before it is played: its work is known."""
    texts = workspace.calibration.texts
    work = plan(asked, texts.n_sequences, texts.length, workspace.stack.players)
    held = workspace.calibration.known_coalitions()
    known = sum(to_text(row) in held for row in asked)
    lasting = work.layer_executions * seconds.layer + work.head_executions * seconds.rest
    return PlanPart(
        distinct=len(asked),
        known=known,
        sequences=texts.n_sequences,
        layer_executions=work.layer_executions,
        layer_tokens_asked=work.layer_tokens_asked,
        layer_tokens_executed=work.layer_tokens_executed,
        head_tokens=work.head_tokens,
        memory_bytes=workspace.engine.memory_bytes(asked),
        disk_bytes=checkpoint_bytes(workspace, keep),
        seconds=lasting * (1 - known / len(asked)) / workspace.engine.at_once,
    )


def _of_search(workspace: Workspace, asks: int, runs: int, keep: int) -> PlanPart:
    """A search that decides as it goes, and asks and runs at most so many layer-sequences.

    Args:
        workspace: The opened model and its texts.
        asks: Layers × sequences that it asks, one coalition at a time.
        runs: Layers × sequences that it runs, prefixes shared.
        keep: Players that will be left.
    """
    texts, n_players = workspace.calibration.texts, workspace.stack.n_players
    one_cut = ~np.eye(n_players, dtype=bool)
    # Parts of the texts are asked too, so layer-sequences become whole passes, rounded up.
    distinct = -(-asks // texts.n_sequences // keep)
    return PlanPart(
        distinct=distinct,
        known=len(workspace.calibration.known_coalitions()),
        sequences=texts.n_sequences,
        layer_executions=-(-runs // texts.n_sequences),
        layer_tokens_asked=asks * texts.length,
        layer_tokens_executed=runs * texts.length,
        head_tokens=distinct * texts.n_sequences * (texts.length - 1),
        memory_bytes=workspace.engine.memory_bytes(one_cut),
        disk_bytes=checkpoint_bytes(workspace, keep),
        seconds=0.0,
        at_most=True,
    )


def _lasting(workspace: Workspace, part: PlanPart, seconds: Seconds) -> float:
    """Seconds of a search that runs and reads at most so much."""
    whole = part.layer_executions * seconds.layer + part.distinct * seconds.rest
    return whole / workspace.engine.at_once


def checkpoint_bytes(workspace: Workspace, keep: int) -> int:
    """Bytes of the checkpoint, taking the players to be of one size."""
    entries = workspace.prepared.source.entries
    whole = sum(entry.n_bytes for entry in entries)
    n_players = workspace.stack.n_players
    if workspace.stack.players == "layer":
        # On disk a layer is known by the name of the list that holds it, such as "layers.".
        word = f"{workspace.stack.path.split('.')[-1]}."
        players = sum(entry.n_bytes for entry in entries if word in entry.name)
    else:  # blocks have no common name on disk: their share of the parameters
        blocks = sum(p.numel() for block in workspace.stack.layers for p in block.parameters())
        players = whole * blocks // sum(p.numel() for p in workspace.model.parameters())
    return whole - players * (n_players - keep) // n_players
