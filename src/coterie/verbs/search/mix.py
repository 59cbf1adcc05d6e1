"""A mix of utilities as one game: what a coalition scores on tasks, and on the texts, weighed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, Observations
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SearchMethod
from coterie.game.search.plain import absences
from coterie.game.search.task import Finalists, SearchTask, Step
from coterie.game.study import Study, run_study
from coterie.game.utilities import Formula, log_loss, read
from coterie.report.schema.contributions import ContributionsPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import UtilityPart
from coterie.scores.mixed_game import MixedGame, Scaled, WeightedUtility
from coterie.scores.task_game import Measure, TaskGame
from coterie.store.stored_game import StoredGame
from coterie.verbs.search.task_utilities import game_of_task
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.record import contributions_part
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.settings import generator, settings_for, size_asked
from coterie.verbs.shared.utility_spec import TEXT_MEASURES, weights_of
from coterie.verbs.shared.workspace import Workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task

PART_REPLICATES = 8
"""Refits behind the errors of a single part; the mix has the full number."""

UNIT = "what one average layer changes, alone"


@dataclass(frozen=True, eq=False)
class Mix:
    """The utilities that were asked for, opened on a model: a game that `choose` plays."""

    workspace: Workspace
    parts: list[Scaled]
    game: MixedGame
    known: set[str]
    """Coalitions the store knew all observations of before, in their text form."""
    replicates: int | None = None
    """Refits behind each error of a study; the usual number by default."""

    # How `choose` plays it: see `coterie.verbs.search.game`.
    stage: ClassVar[str] = "searching by utility"
    in_full: ClassVar[bool] = True
    floor: ClassVar[float] = np.inf  # a mix is finite, whatever its parts have seen

    def alone(self, scaled: Scaled) -> "Mix":
        """One part as a mix of its own, so that its contributions mix with no other's."""
        return replace(self, parts=[scaled], game=MixedGame([scaled]), replicates=PART_REPLICATES)

    @property
    def formula(self) -> Formula:
        """Contributions are in the unit of the mix itself."""
        return log_loss

    @property
    def documents(self) -> Indices:
        """The item or document of each unit, ``(n_units,)``."""
        return self.game.clusters

    @property
    def not_finite(self) -> int:
        """Likelihoods and losses that were read as the worst there is."""
        return self.game.not_finite

    def known_coalitions(self) -> set[str]:
        """Coalitions the store knew all observations of before."""
        return self.known

    def play(self, method: SearchMethod, ledger: Ledger, task: SearchTask) -> Finalists:
        """What a method finds on the mix; a ranking is a study, and its cut is asked later.

        Args:
            method: The search method.
            ledger: The account that asks the game.
            task: Sizes and bounds.
        """
        return Finalists(study=self.study(task.step)) if method.ranks else method.play(ledger, task)

    def layer_tokens_asked(self, coalitions: Coalitions) -> int:
        """Of the calibration texts, where any part is about these; tasks are not counted."""
        # Tasks have lengths of their own and are counted as answers, not as layer-tokens.
        texts = self.workspace.calibration
        used = any(scaled.part.game is texts.game for scaled in self.parts)
        return texts.layer_tokens_asked(coalitions) if used else 0

    def account(self, ledger: Ledger) -> tuple[Coalitions, int]:
        """Every distinct coalition asked: the search's, and those the utilities were weighed by."""
        weighed = absences(ledger.n_players, locked=np.array(self.workspace.locked, dtype=np.intp))
        asked = np.unique(np.concatenate([weighed, ledger.seen()[0]]), axis=0)
        return asked, self.layer_tokens_asked(asked)

    def study(self, step: Step) -> Study:
        """The paper's study of the mix, through a surrogate that knows no bounds."""
        request, stack, locked = self.workspace.request, self.workspace.stack, self.workspace.locked
        # The size matters for fidelity alone: contributions do not depend on it.
        keep = size_asked(request, stack.n_players, locked)
        settings = settings_for(request, stack.n_players, locked, keep)
        settings = replace(settings, utility="log-loss")
        if settings.surrogate == "paper":
            # The paper's network ends in a sigmoid, for values from 0 to 1; these lie below 0.
            settings = replace(settings, surrogate="pairwise")
        if self.replicates is not None:
            settings = replace(settings, replicates=self.replicates)
        vocabulary, rng = self.workspace.engine.vocabulary, generator(request)
        return run_study(self.game, settings, self.documents, vocabulary, rng=rng, step=step)


def mixed(workspace: Workspace, tasks: Mapping[str, "Task"], progress: Progress) -> Mix:
    """Open the game of each utility and weigh it by what one average player changes.

    Args:
        workspace: The opened model and its texts.
        tasks: The tasks of the mix, by name.
        progress: Shows what goes on.

    Raises:
        UserError: a utility that no single player changes.
    """
    games = {name: game_of_task(workspace, name, task) for name, task in tasks.items()}
    # Locked players are always there, so they say nothing about a utility's scale.
    free = np.setdiff1d(np.arange(workspace.stack.n_players), np.array(workspace.locked, dtype=int))
    parts: list[Scaled] = []
    known: list[set[str]] = []
    for (name, measure), weight in weights_of(workspace.request.utility or "").items():
        # Weighing asks for every single absence; with a new store that takes a while.
        progress.say(f"weighing {name}")
        if name in TEXT_MEASURES:
            stored, part = workspace.calibration.game, _text_part(workspace, name, weight)
        else:
            stored, part = games[name], _task_part(name, measure, weight, games[name])
        known.append(stored.known_coalitions())
        parts.append(Scaled.of(part, free))
    # Known in full only where all parts are.
    return Mix(workspace, parts, MixedGame(parts), set.intersection(*known))


def of_mix(record: Record, request: Request) -> None:
    """Say in a record that a mix of utilities was the value, and what its contributions are in."""
    record.search = replace(record.search, utility=request.utility or "")
    if record.contributions is not None:
        record.contributions = replace(record.contributions, unit=UNIT)
    if record.absences is not None:
        record.absences = replace(record.absences, unit=UNIT)


def _text_part(workspace: Workspace, name: str, weight: float) -> WeightedUtility:
    quantity, sign, measure = TEXT_MEASURES[name]
    vocabulary = workspace.calibration.engine.vocabulary

    def scores(seen: Observations) -> Matrix:
        return sign * read(seen, quantity, vocabulary)[0]

    played = workspace.calibration
    return WeightedUtility(
        name, weight, played.game, scores, played.texts.documents, measure=measure
    )


def _task_part(name: str, measure: Measure, weight: float, game: StoredGame) -> WeightedUtility:
    inner = game.inner
    # The unit tells a reader what the contributions of this part are in.
    assert isinstance(inner, TaskGame)
    unit = {"margin": "log-likelihood margin, nats", "acc": "accuracy"}[measure]

    def scores(seen: Observations) -> Matrix:
        return inner.scores(seen, measure)

    return WeightedUtility(name, weight, game, scores, np.arange(len(inner.items)), measure=unit)


def studied_part(alone: Mix, step: Step) -> ContributionsPart:
    """What the players contribute to one part alone, by a study; nothing more is observed."""
    found, kind = alone.study(step).contributions, alone.workspace.request.player_kind()
    return contributions_part(found.estimate, UNIT, found.replicates, found.n_base, kind)


def utility_part(scaled: Scaled, contributions: ContributionsPart | None) -> UtilityPart:
    """One utility as the record names it."""
    return UtilityPart(
        name=scaled.part.name,
        measure=scaled.part.measure,
        weight=scaled.part.weight,
        units=len(scaled.full),
        full=float(scaled.full.mean()),
        scale=scaled.scale,
        contributions=contributions,
    )
