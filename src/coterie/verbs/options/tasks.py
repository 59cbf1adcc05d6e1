"""Zero-shot tasks: scored, or part of what a coalition is worth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from coterie.errors import UserError
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.forms import NAMES
from coterie.verbs.shared.utility_spec import ITEMS, weights_of


@dataclass(frozen=True, kw_only=True)
class TasksFolder(Options):
    """Where tasks lie that are not of lm-evaluation-harness."""

    # Local tasks need no network and therefore come before the harness's own.
    tasks_dir: Annotated[
        Path | None,
        Option(
            "--tasks-dir",
            "DIR",
            "Folder of local tasks, which come first and need no network: NAME.jsonl with rows of "
            "the harness's own columns, or `query, choices, gold`; or harness YAML files.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Tasks(TasksFolder):
    """Zero-shot tasks that are scored."""

    tasks: Annotated[
        tuple[str, ...],
        Option(
            "--tasks",
            "LIST",
            "Zero-shot tasks of lm-evaluation-harness, or `paper`: boolq, piqa, hellaswag, "
            "winogrande, arc_easy, arc_challenge, openbookqa, anli. Needs coterie[eval].",
            form=NAMES,
        ),
    ] = ()
    # For quick looks; the report names the limit beside each accuracy.
    limit: Annotated[int | None, Option("--limit", "N", "Only the first N items of each task.")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class UtilityOptions(TasksFolder):
    """What a coalition is worth, where it is not the loss alone."""

    utility: Annotated[
        str | None,
        Option(
            "--utility",
            "MIX",
            "What a coalition is worth: tasks by margin or, as NAME:acc, by accuracy, and `kl`, "
            "`log-loss` or `top1` on the calibration text, with weights: "
            "piqa=0.5,arc_easy=0.25,kl=0.25. Default: what it predicts on the calibration text "
            "alone.",
        ),
    ] = None
    task_items: Annotated[
        int, Option("--task-items", "N", "First items of each task, for --utility.")
    ] = ITEMS


def check_limit(limit: int | None) -> None:
    """Refuse a limit that leaves no item to score.

    Raises:
        UserError: no item is left.
    """
    # Checked before the harness is imported, which takes seconds.
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit} leaves no item to score: give at least 1")


def check_utility(asked: UtilityOptions) -> None:
    """Refuse a mix that cannot be read, and items of tasks where none are asked for.

    Raises:
        UserError: either of them.
    """
    if asked.utility is None:
        # Options of tasks are refused rather than ignored.
        if asked.tasks_dir is not None or asked.task_items != ITEMS:
            raise UserError("tasks are asked for by --utility: say which, as in piqa=0.5,kl=0.5")
        return
    if asked.task_items < 1:
        raise UserError(f"--task-items {asked.task_items} leaves nothing to ask: give at least 1")
    # Parsed for its errors alone; the verb parses again when it plays.
    weights_of(asked.utility)
