"""Task utilities: the value of a coalition is what it scores on tasks, or a weighted mix."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from coterie.errors import UserError
from coterie.evaluation.planning import plan
from coterie.evaluation.task_definitions import load_tasks
from coterie.evaluation.task_game import Measure, MixedGame, Part, Scaled, TaskGame
from coterie.evaluation.tasks import fingerprint
from coterie.game.coalitions import Matrix, Observations, to_text
from coterie.game.utilities import read
from coterie.models.checkpoints import load_tokenizer
from coterie.pipeline.defaults import context_of, name_of
from coterie.pipeline.evaluate import tokenizer_identity
from coterie.pipeline.opening import Opened, Progress, Silent, opened, prepare
from coterie.pipeline.provenance import versions
from coterie.pipeline.record import contributions_part, searched_record
from coterie.pipeline.request import Request
from coterie.pipeline.search import Searched
from coterie.pipeline.settings import generator, settings_for, size_asked
from coterie.remembered import Remembered
from coterie.report.judgement_utilities import UtilityPart, UtilityReport
from coterie.report.record import BudgetPart
from coterie.study import Study, run_study

if TYPE_CHECKING:
    from lm_eval.api.task import Task

ITEMS = 100
"""Items of a task that are asked; each is asked of every coalition."""

PART_REPLICATES = 8
"""Refits behind the errors of a single part; the mix has the full number."""

UNIT = "what one average layer changes, alone"

_Quantity = Literal["nll", "kl", "top1"]
_TEXTS: dict[str, tuple[_Quantity, float, str]] = {
    "kl": ("kl", -1.0, "minus KL to the full model, nats per token"),
    "log-loss": ("nll", -1.0, "log-likelihood, nats per token"),
    "top1": ("top1", 1.0, "share of tokens predicted as the full model does"),
}


@dataclass(frozen=True)
class UtilityRequest:
    """Which utilities, with what weights, on which items.

    Args:
        spec: ``piqa=0.5,arc_easy:acc=0.25,kl=0.25``; a task's margin unless ``:acc`` is said; of
            the calibration text ``kl``, ``log-loss`` or ``top1``; a single name needs no weight.
        tasks_dir: Folder of local tasks.
        items: First items of each task that are asked.
    """

    spec: str
    tasks_dir: Path | None = None
    items: int = ITEMS

    def weights(self) -> dict[tuple[str, Measure], float]:
        """Name and measure of each utility → its weight; the weights sum to 1.

        Raises:
            UserError: a part that cannot be read, or is named twice.
        """
        if self.items < 1:
            raise UserError(f"--task-items {self.items} leaves nothing to ask: give at least 1")
        found: dict[tuple[str, Measure], float] = {}
        parts = [part.strip() for part in self.spec.split(",")]
        for part in parts:
            match = re.fullmatch(r"([\w.-]+)(?::(margin|acc))?(?:=([0-9.]+))?", part)
            number = _number(match[3]) if match and match[3] else 1.0
            if match is None or number <= 0 or (match[3] is None and len(parts) > 1):
                raise UserError(
                    f"--utility '{part}' cannot be read: write NAME=WEIGHT, weights above 0, as in "
                    "piqa=0.5,arc_easy:acc=0.25,kl=0.25"
                )
            if match[1] == "ppl-ratio":
                raise UserError("ppl-ratio is no mean over texts: in a mix take log-loss or kl")
            key = match[1], cast("Measure", match[2] or "margin")
            if key in found:
                raise UserError(f"--utility names {match[1]} twice: give it once, with its weight")
            found[key] = number
        total = sum(found.values())
        return {key: number / total for key, number in found.items()}


def utility_values(
    request: Request,
    utility: UtilityRequest,
    *,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> UtilityReport:
    """What every player contributes to a mix of utilities, and to each of them.

    Args:
        store: SQLite file of observations; None is the user's cache.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check(cutting=False)
    if request.front or request.interactions or request.repeats > 1 or request.estimator != "paper":
        raise UserError(
            "--utility estimates contributions through a surrogate: leave out --front, "
            "--interactions, --repeats and --estimator"
        )
    weights = utility.weights()
    progress = progress or Silent()
    tasks = {name for name, _ in weights if name not in _TEXTS}
    loaded = load_tasks(sorted(tasks), utility.tasks_dir) if tasks else {}
    if extra := sorted(tasks - set(loaded)):
        raise UserError(f"'{extra[0]}' is a group of tasks: name one of {', '.join(loaded)}")
    prepared = prepare(request, progress=progress)
    with opened(prepared, store=store, progress=progress) as table:
        games = {name: _task_game(table, name, loaded[name], utility) for name in sorted(tasks)}
        free = np.setdiff1d(np.arange(table.stack.n_players), np.array(table.locked, dtype=int))
        parts: list[Scaled] = []
        known: list[set[str]] = []
        for (name, measure), weight in weights.items():
            progress.say(f"weighing {name}")
            part = (
                _text_part(table, name, weight)
                if name in _TEXTS
                else _task_part(name, measure, weight, games[name])
            )
            known.append(_known(part))
            parts.append(Scaled.of(part, free))
        mixed = _study(table, MixedGame(parts), progress)
        budget = _budget(table, mixed, parts, set.intersection(*known))
        record = searched_record("values", table, Searched(mixed, budget))
        record["search"]["utility"] = utility.spec
        if record["contributions"] is not None:
            record["contributions"]["unit"] = UNIT
        single = [_single(table, scaled, progress) for scaled in parts]
        return UtilityReport(record=record, unit=UNIT, items=utility.items, parts=single)


def _task_game(table: Opened, name: str, task: "Task", utility: UtilityRequest) -> Remembered:
    """The task as a game behind the store, under everything its answers depend on."""
    source, book = table.prepared.source, table.calibration.game.store
    asked = fingerprint(task, utility.items)
    game = TaskGame(
        name,
        task,
        table.model,
        load_tokenizer(source),
        table.stack,
        limit=utility.items,
        bos=table.request.bos_policy(),
        context=context_of(source),
    )
    number = book.game(
        {
            "kind": "task-game",
            "task": name,
            "items": asked,
            "bos": table.request.bos,
            "weights": source.fingerprint(),
            "tokenizer": tokenizer_identity(load_tokenizer(source)),
            "dtype": name_of(table.prepared.dtype),
            "device": table.model.device.type,
            "attention": table.attention,
            "stack": table.stack.path,
            "players": table.stack.players,
            "versions": {k: v for k, v in versions().items() if k in ("torch", "transformers")},
        }
    )
    return Remembered(game, book, number)


def _text_part(table: Opened, name: str, weight: float) -> Part:
    quantity, sign, measure = _TEXTS[name]
    vocabulary = table.calibration.engine.vocabulary

    def scores(seen: Observations) -> Matrix:
        return sign * read(seen, quantity, vocabulary)[0]

    played = table.calibration
    return Part(name, weight, played.game, scores, played.texts.documents, measure)


def _task_part(name: str, measure: Measure, weight: float, game: Remembered) -> Part:
    inner = game.inner
    assert isinstance(inner, TaskGame)
    told = {"margin": "log-likelihood margin, nats", "acc": "accuracy"}[measure]

    def scores(seen: Observations) -> Matrix:
        return inner.scores(seen, measure)

    return Part(name, weight, game, scores, np.arange(len(inner.items)), told)


def _study(
    table: Opened, game: MixedGame, progress: Progress, replicates: int | None = None
) -> Study:
    n_players = table.stack.n_players
    keep = size_asked(table.request, n_players, table.locked)
    settings = replace(
        settings_for(table.request, n_players, table.locked, keep), utility="log-loss"
    )
    if settings.surrogate == "paper":
        # The paper's network ends in a sigmoid, for values from 0 to 1; these lie below 0.
        settings = replace(settings, surrogate="pairwise")
    if replicates is not None:
        settings = replace(settings, replicates=replicates)
    return run_study(
        game,
        settings,
        game.clusters,
        table.calibration.engine.vocabulary,
        rng=generator(table.request),
        step=progress.step,
    )


def _single(table: Opened, scaled: Scaled, progress: Progress) -> UtilityPart:
    """What the players contribute to one part alone; nothing is observed anew."""
    found = _study(table, MixedGame([scaled]), progress, PART_REPLICATES).contributions
    return UtilityPart(
        name=scaled.part.name,
        measure=scaled.part.measure,
        weight=scaled.part.weight,
        units=len(scaled.full),
        full=float(scaled.full.mean()),
        scale=scaled.scale,
        contributions=contributions_part(
            found.estimate,
            UNIT,
            found.replicates,
            found.n_base,
            table.request.player_kind(),
        ),
    )


def _known(part: Part) -> set[str]:
    """Coalitions the store knows all of this part's observations of, in their text form."""
    game = part.game
    assert isinstance(game, Remembered)
    return game.store.whole(game.number, game.n_sequences)


def _budget(table: Opened, study: Study, parts: list[Scaled], known: set[str]) -> BudgetPart:
    """The cost of the texts as always; that of the tasks as answers asked."""
    asked = np.unique(study.asked, axis=0)
    played = table.calibration
    texts = any(scaled.part.game is played.game for scaled in parts)
    work = plan(asked, played.texts.n_sequences, played.texts.length)
    return BudgetPart(
        distinct=len(asked),
        known=sum(to_text(row) in known for row in asked),
        layer_tokens_asked=work.layer_tokens_asked if texts else 0,
        layer_tokens_executed=played.engine.spent.layer_tokens,
        head_tokens=played.engine.spent.head_tokens,
        not_finite=study.not_finite,
        seconds={"observing": study.seconds_observing, "estimating": study.seconds_estimating},
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
