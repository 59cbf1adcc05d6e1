"""Which tasks there are: lm-evaluation-harness's own, and those of a local folder.

A folder of tasks may hold, side by side,

- lm-eval YAML files, whose relative ``data_files`` are looked for beside them;
- ``NAME.jsonl`` of any name with rows ``query, choices, gold`` (which choice follows the query),
  ``context_options, continuation, gold`` (after which option the continuation fits), or
  ``context, continuation`` (is the continuation the likeliest), scored on the text as it stands;
- ``NAME.jsonl`` where NAME is one of lm-eval's own tasks and the rows have that task's columns: the
  harness's prompt and scoring on local rows, without a network.
"""

import contextlib
import difflib
import io
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.errors import UserError

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

_ACCURACY: list[dict[str, object]] = [
    {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
    {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
]
_SHAPES: dict[tuple[str, ...], dict[str, object]] = {
    ("query", "choices", "gold"): {
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": _ACCURACY,
    },
    ("context_options", "continuation", "gold"): {
        "output_type": "multiple_choice",
        "doc_to_text": "{{gold}}",  # lm-eval's convention where the contexts are the choices
        "doc_to_choice": "{{context_options}}",
        "doc_to_target": "{{continuation}}",
        "metric_list": _ACCURACY[:1],
    },
    ("context", "continuation"): {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{continuation}}",
        "metric_list": _ACCURACY[:1],
    },
}


class TaskError(UserError):
    """A task that is not known, cannot be read, or cannot be scored."""


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


def read_rows(path: Path) -> list[dict[str, object]]:
    """The rows of a JSON-lines file.

    Raises:
        TaskError: not UTF-8, a line that is not a JSON object, or no row at all.
    """
    rows: list[dict[str, object]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise TaskError(
            f"'{path.name}' is not UTF-8: byte {error.start}; save it as UTF-8"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TaskError(f"'{path.name}', line {number} is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise TaskError(f"'{path.name}', line {number} is not an object with named columns")
        rows.append(row)
    if not rows:
        raise TaskError(f"task file '{path.name}' is empty: a task needs at least one row")
    return rows


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
        spec = _on_local_rows(name, harness, rows_at)
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


def _on_local_rows(name: str, harness: "TaskManager", path: Path) -> dict[str, object]:
    """A definition whose data are the rows of a file."""
    rows = read_rows(path)
    # The columns decide: one of our own shapes, or else the definition of the harness.
    definition = _shape(rows)
    if definition is None:
        entry = harness.task_index.get(name)
        if entry is None or entry.yaml_path is None:
            raise TaskError(
                f"'{path.name}' has the columns {', '.join(rows[0])}, and '{name}' is not a task "
                f"of lm-eval: give every row {_shapes()}"
            )
        from lm_eval.tasks._yaml_loader import load_yaml

        definition = load_yaml(entry.yaml_path)
    splits = ("training_split", "validation_split", "test_split", "fewshot_split")
    # Every split that the definition may ask for holds the same rows.
    parts = {str(definition[split]) for split in splits if definition.get(split)}
    return {
        **definition,
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": None,
        "custom_dataset": _Rows(rows, tuple(sorted(parts))),
    }


class _Rows:
    """A data set of fixed rows, the same in every split."""

    def __init__(self, rows: list[dict[str, object]], splits: tuple[str, ...]) -> None:
        self.rows = rows
        self.splits = splits

    def __call__(self, **_metadata: object) -> Mapping[str, object]:
        import datasets

        table = datasets.Dataset.from_list(self.rows)
        return datasets.DatasetDict(dict.fromkeys(self.splits, table))


def _shape(rows: list[dict[str, object]]) -> dict[str, object] | None:
    for columns, definition in _SHAPES.items():
        if all(set(columns) <= set(row) for row in rows):
            return {"test_split": "test", "metadata": {"version": "local"}, **definition}
    return None


def _shapes() -> str:
    return " or ".join(", ".join(columns) for columns in _SHAPES)


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
