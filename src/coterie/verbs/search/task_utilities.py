"""The tasks that a mix of utilities names: loaded, told apart, and made into games."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.errors import UserError
from coterie.models.loaded.load import load_tokenizer
from coterie.plain import Json
from coterie.scores.task_definitions import load_tasks
from coterie.scores.task_game import TaskGame
from coterie.scores.tasks import TaskSettings, task_fingerprint
from coterie.store.stored_game import StoredGame
from coterie.verbs.evaluate.subject import tokenizer_identity
from coterie.verbs.shared.defaults import context_of, name_of
from coterie.verbs.shared.provenance import versions
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.utility_spec import TEXT_MEASURES, weights_of
from coterie.verbs.shared.workspace import Workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task


def tasks_of(request: Request) -> dict[str, "Task"]:
    """The tasks that a mix names, with their items; without a model.

    Raises:
        UserError: a task that is not there, is a group of them, or cannot be read.
    """
    # Text utilities are read off the calibration game and load no task.
    asked = {name for name, _ in weights_of(request.utility or "")}
    names = sorted(asked - set(TEXT_MEASURES))
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
        # As many more decide between the finalists.
        name: task_fingerprint(task, 2 * request.task_items)
        for name, task in sorted(tasks.items())
        # Items, not the name: a task edited on disk must not look finished.
    }
    return {"tasks_sha256": {**items}}


def mixes_texts(request: Request) -> bool:
    """Whether any utility of the mix is about the calibration text."""
    return any(name in TEXT_MEASURES for name, _ in weights_of(request.utility or ""))


def game_of_task(
    workspace: Workspace, name: str, task: "Task", *, decides: bool = False
) -> StoredGame | None:
    """The task as a game behind the store, under everything its answers depend on.

    Args:
        workspace: The opened model and its texts.
        name: The task's name.
        task: The task itself, with its items.
        decides: Whether it is about as many items after those that choose.

    Returns:
        None where no items are left to decide by.
    """
    source, book = workspace.prepared.source, workspace.calibration.game.store
    first = workspace.request.task_items if decides else 0
    limit = first + workspace.request.task_items
    if decides and len(task.eval_docs) <= first:
        return None
    asked = task_fingerprint(task, limit)
    game = TaskGame(
        name,
        task,
        workspace.model,
        load_tokenizer(source),
        workspace.stack,
        settings=TaskSettings(
            limit=limit, first=first, bos=workspace.request.bos_policy(), context=context_of(source)
        ),
    )
    # Everything that an answer depends on; none of it may change without a new number.
    number = book.game(
        {
            **({"first": first} if first else {}),
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
