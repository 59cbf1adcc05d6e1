"""A mix of utilities as one game: what a coalition scores on tasks, and on the texts, weighed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, Observations, observe_all
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SearchMethod
from coterie.game.search.plain import absences
from coterie.game.search.task import Finalists, SearchTask, Step
from coterie.game.study import Study, run_study
from coterie.game.utilities import Formula, log_loss, read
from coterie.report.schema.contributions import ContributionsPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import UtilityPart
from coterie.scores.errors import TaskError
from coterie.scores.mixed_game import MixedGame, Scaled, WeightedUtility
from coterie.scores.task_game import Measure, TaskGame
from coterie.store.stored_game import StoredGame
from coterie.verbs.search.task_utilities import game_of_task
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.record import contributions_part
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.settings import generator, settings_for, size_asked
from coterie.verbs.shared.text_game import TextGame
from coterie.verbs.shared.utility_spec import TEXT_MEASURES, weights_of
from coterie.verbs.shared.workspace import Workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task

FEW = 500
"""Items of a task below which a choice by it is told to be a matter of luck."""

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
    tasks: "Mapping[str, Task]" = field(default_factory=dict)
    """The tasks of the mix, by name."""

    # How `choose` plays it: see `coterie.verbs.search.game`.
    stage: ClassVar[str] = "searching by utility"
    in_full: ClassVar[bool] = True
    floor: ClassVar[float] = np.inf  # a mix is finite, whatever its parts have seen

    def alone(self, scaled: Scaled) -> "Mix":
        """One part as a mix of its own, so that its contributions mix with no other's."""
        return replace(self, parts=[scaled], game=MixedGame([scaled]), replicates=PART_REPLICATES)

    def others(self) -> "Mix | None":
        """The same mix on items and texts that chose nothing, for the finalists; None without any.

        Each utility keeps the scale that it chose by, so that both are in the same unit.
        """
        parts = [self._other(scaled) for scaled in self.parts]
        if all(one is None for one in parts):
            return None
        found = [other or own for other, own in zip(parts, self.parts, strict=True)]
        return replace(self, parts=found, game=MixedGame(found), known=set())

    def _other(self, scaled: Scaled) -> Scaled | None:
        """One part on what did not choose; None where there is nothing."""
        own, workspace = scaled.part, self.workspace
        if own.name in TEXT_MEASURES:
            second = workspace.second()
            part = None if second is None else _text_part(second, own.name, own.weight)
        else:
            task = self.tasks[own.name]
            game = game_of_task(workspace, own.name, task, decides=True)
            part = None if game is None else _task_part(own.name, own.asked, own.weight, game)
        if part is None:
            return None
        grand = np.ones((1, part.game.n_players), dtype=bool)
        return Scaled(part, part.scores(observe_all(part.game, grand))[0], scaled.scale)

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
    games: dict[str, StoredGame] = {}
    for name, task in tasks.items():
        game = game_of_task(workspace, name, task)
        assert game is not None  # a task has items
        games[name] = game
        _warn_of_few(name, game, progress)
    # Locked players are always there, so they say nothing about a utility's scale.
    free = np.setdiff1d(np.arange(workspace.stack.n_players), np.array(workspace.locked, dtype=int))
    parts: list[Scaled] = []
    known: list[set[str]] = []
    for (name, measure), weight in weights_of(workspace.request.utility or "").items():
        # Weighing asks for every single absence; with a new store that takes a while.
        progress.say(f"weighing {name}")
        if name in TEXT_MEASURES:
            stored, part = (
                workspace.calibration.game,
                _text_part(workspace.calibration, name, weight),
            )
        else:
            stored, part = games[name], _task_part(name, measure, weight, games[name])
        known.append(stored.known_coalitions())
        parts.append(Scaled.of(part, free))
    # Known in full only where all parts are.
    whole = MixedGame(parts)
    return Mix(workspace, parts, whole, set.intersection(*known), tasks=tasks)


def _warn_of_few(name: str, game: StoredGame, progress: Progress) -> None:
    """Say where a task has too few items to tell coalitions apart."""
    assert isinstance(game.inner, TaskGame)
    n = len(game.inner.items)
    if n < FEW:
        progress.say(
            f"warning: {n} items of {name} choose, and below {FEW} the best of many coalitions is"
            " mostly the luckiest: give --task-items"
            f" {FEW}, or mix in kl"
        )


def of_mix(record: Record, request: Request) -> None:
    """Say in a record that a mix of utilities was the value, and what its contributions are in."""
    record.search = replace(record.search, utility=request.utility or "")
    if record.contributions is not None:
        record.contributions = replace(record.contributions, unit=UNIT)
    if record.absences is not None:
        record.absences = replace(record.absences, unit=UNIT)


def _text_part(played: TextGame, name: str, weight: float) -> WeightedUtility:
    quantity, sign, measure = TEXT_MEASURES[name]
    vocabulary = played.engine.vocabulary

    def scores(seen: Observations) -> Matrix:
        return sign * read(seen, quantity, vocabulary)[0]

    return WeightedUtility(
        name, weight, played.game, scores, played.texts.documents, measure=measure
    )


def _task_part(name: str, measure: Measure, weight: float, game: StoredGame) -> WeightedUtility:
    inner = game.inner
    # The unit tells a reader what the contributions of this part are in.
    assert isinstance(inner, TaskGame)
    unit = {"margin": "log-likelihood margin, nats", "acc": "accuracy"}[measure]
    if not inner.chooses:
        unit = "log-likelihood of the worked answer, nats"
        if measure == "acc":
            raise TaskError(
                f"'{name}:acc' would take decoding for every coalition: give '{name}', which is"
                " worth the log-likelihood of its worked answers"
            )

    def scores(seen: Observations) -> Matrix:
        return inner.scores(seen, measure)

    items = np.arange(len(inner.items))
    return WeightedUtility(name, weight, game, scores, items, measure=unit, asked=measure)


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
