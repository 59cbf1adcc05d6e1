"""Tasks on the rows of a local file, in a shape of our own or in that of a task of the harness."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.plain import parsed
from coterie.scores.errors import TaskError
from coterie.scores.worked_answers import COLUMNS, definition

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


_ACCURACY: list[dict[str, object]] = [
    {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
    {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
]

_SHAPES: dict[tuple[str, ...], dict[str, object]] = {
    COLUMNS: definition(),
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


def read_rows(path: Path) -> list[dict[str, object]]:
    """The rows of a JSON-lines file.

    Raises:
        TaskError: not UTF-8, a line that is not a JSON object, or no row at all.
    """
    rows: list[dict[str, object]] = []
    try:
        # Not `splitlines`: a text may hold characters such as U+2028, which end no line of a file.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TaskError(
            f"'{path.name}' is not UTF-8: byte {error.start}; save it as UTF-8"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parsed(line)
        except ValueError as error:
            raise TaskError(f"'{path.name}', line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TaskError(f"'{path.name}', line {number} is not an object with named columns")
        rows.append(row)
    if not rows:
        raise TaskError(f"task file '{path.name}' is empty: a task needs at least one row")
    return rows


def on_local_rows(name: str, harness: "TaskManager", path: Path) -> dict[str, object]:
    """A definition whose data are the rows of a file.

    Args:
        name: What the task is called.
        harness: Knows the tasks of lm-evaluation-harness.
        path: The file, with one JSON object a line.

    Raises:
        TaskError: the file cannot be read, or its columns are of no task.
    """
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
    for columns, shape in _SHAPES.items():
        if all(set(columns) <= set(row) for row in rows):
            return {"test_split": "test", "metadata": {"version": "local"}, **shape}
    return None


def _shapes() -> str:
    return " or ".join(", ".join(columns) for columns in _SHAPES)
