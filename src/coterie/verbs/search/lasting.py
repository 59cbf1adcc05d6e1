"""How long a run will take, part by part: what is expected, and the most."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from coterie.engine.interface import Seconds
from coterie.game.search.methods import SEARCH_METHODS
from coterie.game.search.plain import descent_executed, descent_layers
from coterie.game.search.race import least_texts
from coterie.report.schema.plan import PlanPart, TimePart
from coterie.texts.sets import TextSet
from coterie.verbs.search.choose import FINALISTS
from coterie.verbs.shared.workspace import Workspace

EXPECTED_SHARE = 0.7
"""Share of the most that a search without a budget runs before its rounds no longer improve."""


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
        share = texts.n_sequences * texts.length / self._calibration.tokens.size
        sizes = (self.workspace.stack.n_players, *coalitions)
        whole = sum(size * self.each.layer + self.each.rest for size in sizes)
        return share * whole / self.workspace.engine.at_once

    @property
    def _calibration(self) -> TextSet:
        return self.workspace.calibration.texts

    def opening(self) -> TimePart:
        """What has been done by now; the run does it again."""
        return TimePart("preparing and loading", self.opened.seconds, self.opened.seconds)

    def searching(self, part: PlanPart) -> TimePart:
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
        return TimePart("searching", min(expected, limit), min(part.seconds, limit))

    def deciding(self) -> list[TimePart]:
        """The finalists on the texts that decide; nothing where a method has one answer."""
        second = self.workspace.prepared.second
        if second is None or SEARCH_METHODS[self.workspace.request.plays()].ranks:
            return []
        seconds = self.opened.setting_up + self.observing(second, *([self.keep] * FINALISTS))
        return [TimePart("deciding between finalists", seconds, seconds)]

    def judging(self) -> TimePart:
        """Full and cut model on the held-out texts."""
        seconds = self.observing(self.workspace.prepared.held_out, self.keep)
        return TimePart("judging", *[self.opened.setting_up + seconds] * 2)

    def writing(self) -> TimePart:
        """The checkpoint is written, read again with plain transformers, and compared."""
        share = self.keep / self.workspace.stack.n_players
        seconds = (1 + share) * self.opened.loading + self.opened.setting_up
        return TimePart("writing and checking", seconds, seconds)


def with_times(part: PlanPart, times: Sequence[TimePart]) -> PlanPart:
    """A plan with the time of every part of the run, and of all together."""
    part.times = list(times)
    part.expected_seconds = sum(one.expected for one in times)
    part.most_seconds = sum(one.most for one in times)
    return part
