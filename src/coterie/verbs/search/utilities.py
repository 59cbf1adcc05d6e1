"""Task utilities: the value of a coalition is what it scores on tasks, or a weighted mix."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from coterie.errors import UserError
from coterie.game.coalitions import Coalitions, Indices, Matrix, Observations
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SearchMethod
from coterie.game.search.plain import absences
from coterie.game.search.task import Finalists, SearchTask, Step
from coterie.game.study import Study, run_study
from coterie.game.utilities import Formula, log_loss, read
from coterie.models.loaded.load import load_tokenizer
from coterie.plain import Json
from coterie.report.schema.contributions import ContributionsPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import UtilityPart
from coterie.report.schema.utilities import UtilityReport
from coterie.scores.task_definitions import load_tasks
from coterie.scores.task_game import Measure, MixedGame, Scaled, TaskGame, WeightedUtility
from coterie.scores.tasks import TaskSettings, task_fingerprint
from coterie.store.stored_game import StoredGame
from coterie.verbs.evaluate.run import tokenizer_identity
from coterie.verbs.search.paper import paper_study
from coterie.verbs.search.record import searched_record
from coterie.verbs.shared.defaults import context_of, name_of
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.provenance import versions
from coterie.verbs.shared.record import contributions_part
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.settings import generator, settings_for, size_asked
from coterie.verbs.shared.utility_spec import weights_of
from coterie.verbs.shared.workspace import Workspace, open_workspace
from coterie.verbs.values.request import ValuesRequest

if TYPE_CHECKING:
    from lm_eval.api.task import Task

PART_REPLICATES = 8
"""Refits behind the errors of a single part; the mix has the full number."""

UNIT = "what one average layer changes, alone"

_Quantity = Literal["nll", "kl", "top1"]
# The sign turns each into a value: higher is better, always.
_TEXTS: dict[str, tuple[_Quantity, float, str]] = {
    "kl": ("kl", -1.0, "minus KL to the full model, nats per token"),
    "log-loss": ("nll", -1.0, "log-likelihood, nats per token"),
    "top1": ("top1", 1.0, "share of tokens predicted as the full model does"),
}


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


def tasks_of(request: Request) -> dict[str, "Task"]:
    """The tasks that a mix names, with their items; without a model.

    Raises:
        UserError: a task that is not there, is a group of them, or cannot be read.
    """
    # Text utilities are read off the calibration game and load no task.
    names = sorted({name for name, _ in weights_of(request.utility or "") if name not in _TEXTS})
    folder = None if request.tasks_dir is None else Path(request.tasks_dir)
    loaded = load_tasks(names, folder) if names else {}
    # A group, such as anli, loads as several tasks: one weight cannot say which.
    if extra := sorted(set(names) - set(loaded)):
        raise UserError(f"'{extra[0]}' is a group of tasks: name one of {', '.join(loaded)}")
    return loaded


def items_asked(request: Request, tasks: Mapping[str, "Task"]) -> dict[str, Json]:
    """A hash of everything asked of each task: part of what decides the answer, if any is."""
    if not tasks:
        return {}
    items = {
        name: task_fingerprint(task, request.task_items)
        for name, task in sorted(tasks.items())
        # Items, not the name: a task edited on disk must not look finished.
    }
    return {"tasks_sha256": {**items}}


def mixes_texts(request: Request) -> bool:
    """Whether any utility of the mix is about the calibration text."""
    return any(name in _TEXTS for name, _ in weights_of(request.utility or ""))


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
        part = (
            _text_part(workspace, name, weight)
            if name in _TEXTS
            else _task_part(name, measure, weight, games[name])
        )
        known.append(known_of(part.game))
        parts.append(Scaled.of(part, free))
    # Known in full only where all parts are.
    return Mix(workspace, parts, MixedGame(parts), set.intersection(*known))


def utility_values(
    request: ValuesRequest, *, store: Path | str | None = None, progress: Progress | None = None
) -> UtilityReport:
    """What every player contributes to a mix of utilities, and to each of them.

    Args:
        request: What was asked.
        store: SQLite file of observations; None is the user's cache.
        progress: Shows what goes on.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    # Checked before tasks are loaded: that may reach for the network.
    request.check()
    progress = progress or NoProgress()
    tasks = tasks_of(request)
    prepared = prepare(request, progress=progress)
    with open_workspace(prepared, store=store, progress=progress) as workspace:
        mix = mixed(workspace, tasks, progress)
        study = mix.study(progress.step)
        searched = paper_study(workspace, mix, study, mix.known)
        record = searched_record("values", workspace, searched)
        of_mix(record, request)
        # The study above left every observation in the store: these ask nothing new.
        single = [
            utility_part(one, studied_part(mix.alone(one), progress.step)) for one in mix.parts
        ]
        return UtilityReport(record=record, unit=UNIT, items=request.task_items, parts=single)


def of_mix(record: Record, request: Request) -> None:
    """Say in a record that a mix of utilities was the value, and what its contributions are in."""
    record.search = replace(record.search, utility=request.utility or "")
    if record.contributions is not None:
        record.contributions = replace(record.contributions, unit=UNIT)


def game_of_task(workspace: Workspace, name: str, task: "Task") -> StoredGame:
    """The task as a game behind the store, under everything its answers depend on.

    Args:
        workspace: The opened model and its texts.
        name: The task's name.
        task: The task itself, with its items.
    """
    source, book = workspace.prepared.source, workspace.calibration.game.store
    limit = workspace.request.task_items
    asked = task_fingerprint(task, limit)
    game = TaskGame(
        name,
        task,
        workspace.model,
        load_tokenizer(source),
        workspace.stack,
        settings=TaskSettings(
            limit=limit, bos=workspace.request.bos_policy(), context=context_of(source)
        ),
    )
    # Everything that an answer depends on; none of it may change without a new number.
    number = book.game(
        {
            "kind": "task-game",
            "task": name,
            "items": asked,
            "bos": workspace.request.bos,
            "weights": source.fingerprint(),
            "tokenizer": tokenizer_identity(load_tokenizer(source)),
            "dtype": name_of(workspace.prepared.dtype),
            "device": workspace.model.device.type,
            "attention": workspace.attention,
            "stack": workspace.stack.path,
            "players": workspace.stack.players,
            # These two compute the answers; other packages only carry them.
            "versions": {k: v for k, v in versions().items() if k in ("torch", "transformers")},
        }
    )
    return StoredGame(game, book, number)


def _text_part(workspace: Workspace, name: str, weight: float) -> WeightedUtility:
    quantity, sign, measure = _TEXTS[name]
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


def known_of(game: object) -> set[str]:
    """Coalitions the store knows all observations of, in their text form."""
    assert isinstance(game, StoredGame)
    return game.store.whole(game.number, game.n_sequences)
