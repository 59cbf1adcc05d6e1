"""Which tasks there are: lm-evaluation-harness's own, and those of a local folder.

A folder of tasks may hold, side by side,

- lm-eval YAML files, whose relative ``data_files`` are looked for beside them;
- ``NAME.jsonl`` of any name with rows ``query, choices, gold`` (which choice follows the query),
  ``context_options, continuation, gold`` (after which option the continuation fits), or
  ``context, continuation`` (is the continuation the likeliest), scored on the text as it stands;
- ``NAME.jsonl`` with rows ``question, reasoning, answer``: decoded, and the answer matched exactly;
- ``NAME.jsonl`` where NAME is one of lm-eval's own tasks and the rows have that task's columns: the
  harness's prompt and scoring on local rows, without a network.
"""

import contextlib
import difflib
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.scores.errors import TaskError
from coterie.scores.local_rows import _shapes, on_local_rows

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

PAPER_TASKS = (
    "boolq", "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa", "anli",
)  # fmt: skip
"""The zero-shot tasks of Ding et al. 2026, arXiv:2602.07804; ``anli`` is its three rounds."""

# Reading every definition of the harness takes many seconds; those of the paper live here.
_USUAL = (
    "super_glue/boolq", "piqa", "hellaswag", "winogrande", "arc", "openbookqa", "anli",
    "lambada", "sciq", "swag", "race",
)  # fmt: skip


def load_tasks(names: Sequence[str], tasks_dir: Path | None = None) -> dict[str, "Task"]:
    """The tasks of these names with their data, groups spelled out, ready to be scored.

    Args:
        names: Tasks, groups or tags of lm-eval, or tasks of the folder, which come first.
        tasks_dir: Folder of local tasks, as the head of this module says.

    Raises:
        TaskError: an unknown task (the message names the nearest), data that cannot be had or read,
            or lm-eval not installed.
    """
    groups = load_groups(names, tasks_dir)
    return {name: task for members in groups.values() for name, task in members.items()}


def load_groups(
    names: Sequence[str], tasks_dir: Path | None = None
) -> dict[str, dict[str, "Task"]]:
    """The same as `load_tasks`, by the name each task was asked under: ``anli`` is three tasks.

    Raises:
        TaskError: as `load_tasks`.
    """
    if not names:
        raise TaskError(f"no task is named: name some, such as {', '.join(PAPER_TASKS[:3])}")
    harness = _harness(names, tasks_dir)
    groups: dict[str, dict[str, Task]] = {}
    for name in names:
        local = tasks_dir / f"{name}.jsonl" if tasks_dir is not None else None
        groups[name] = {}
        for spec in _members(name, harness, tasks_dir):
            groups[name].update(_load(spec, harness, local))
    return groups


def _harness(names: Sequence[str], tasks_dir: Path | None) -> "TaskManager":
    """A manager that knows the names: of the usual tasks, or of every task if it must."""
    try:
        import lm_eval.tasks as harness
    except ImportError as error:
        raise TaskError(
            "tasks are scored by lm-evaluation-harness: pip install 'coterie[eval]'"
        ) from error
    if tasks_dir is not None and not tasks_dir.is_dir():
        raise TaskError(f"the folder of tasks '{tasks_dir.name}' is not there")
    root = Path(harness.__file__).parent
    own = [] if tasks_dir is None else [tasks_dir]
    # First the few folders of common tasks: reading all definitions takes many seconds.
    usual = [root / folder for folder in _USUAL if (root / folder).is_dir()]
    manager = harness.TaskManager(include_path=[*usual, *own], include_defaults=False)
    local = set() if tasks_dir is None else {path.stem for path in tasks_dir.glob("*.jsonl")}
    unknown = [name for name in names if name not in manager.task_index and name not in local]
    if not unknown:
        return manager
    # A name is not among them: now every definition is read.
    manager = harness.TaskManager(include_path=own, include_defaults=True)
    for name in unknown:
        if name not in manager.task_index:
            raise TaskError(_unknown(name, [*local, *manager.all_tasks]))
    return manager


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.6)
    near = near or [other for other in known if name.lower() in other.lower()][:4]
    hint = f": did you mean {', '.join(near)}?" if near else ": `lm-eval ls tasks` lists them"
    return f"there is no task '{name}'{hint}"


def _members(name: str, harness: "TaskManager", tasks_dir: Path | None) -> list[str]:
    """A tag as its tasks, so that each finds its own local rows; anything else as it is."""
    entry = harness.task_index.get(name)
    if entry is None or entry.kind.name != "TAG":
        return [name]
    return sorted(entry.tags)


def _load(name: str, harness: "TaskManager", local: Path | None) -> dict[str, "Task"]:
    rows_at = None if local is None else local.with_name(f"{name}.jsonl")
    on_rows = rows_at is not None and rows_at.is_file()
    spec: str | dict[str, object] = name
    if rows_at is not None and on_rows:
        spec = on_local_rows(name, harness, rows_at)
    elif name in harness.task_index:
        spec = _beside(name, harness)
    try:
        with quiet_harness():
            return dict(harness.load([spec])["tasks"])
    except Exception as error:  # data sets, templates and user code raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        way_out = (
            f"give its rows the columns of lm-eval's task '{name}', or {_shapes()}"
            if on_rows
            else f"offline, put its rows into {name}.jsonl in a folder and give --tasks-dir"
        )
        raise TaskError(f"task '{name}' cannot be loaded: {reason}; {way_out}") from error


def _beside(name: str, harness: "TaskManager") -> str | dict[str, object]:
    """The definition, its data files found beside it whatever the current folder."""
    entry = harness.task_index[name]
    data = (entry.cfg or {}).get("dataset_kwargs") or {}
    files = data.get("data_files") if isinstance(data, dict) else None
    if entry.yaml_path is None or not isinstance(files, str | dict):
        return name
    folder = entry.yaml_path.parent

    def found(file: object) -> object:
        beside = folder / str(file)
        return str(beside) if isinstance(file, str) and beside.is_file() else file

    from lm_eval.tasks._yaml_loader import load_yaml

    places = {k: found(v) for k, v in files.items()} if isinstance(files, dict) else found(files)
    return {**load_yaml(entry.yaml_path), "dataset_kwargs": {**data, "data_files": places}}


@contextlib.contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep the harness's advice out of a report; only a terminal shows its progress bars."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "huggingface_hub", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        if sys.stderr.isatty():
            yield
        else:
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
