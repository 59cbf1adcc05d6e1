"""Sample logs of lm-evaluation-harness (`lm_eval --log_samples`): scores item by item, from files.

Each task has a file ``samples_TASK_TIME.jsonl``, one JSON object an item; of several runs of a task
the newest counts, and of several readings of one answer the first.
"""

import re
from pathlib import Path

import numpy as np

from coterie.plain import parsed
from coterie.scores.errors import TaskError
from coterie.scores.task_scores import HEADLINES, TaskScores

_NAME = re.compile(r"samples_(.+?)_\d{4}-\d\d-\d\dT[\d.:\-]+\.jsonl")
_OF_ITEMS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
_OF_ITEMS |= {"doc_hash", "prompt_hash", "target_hash"}


def read_logs(folder: Path) -> dict[str, TaskScores]:
    """The scores of every task that a folder has logs of, by its name.

    Raises:
        TaskError: the folder is not there, has no logs, or one of them cannot be read.
    """
    if not folder.is_dir():
        raise TaskError(f"the folder of logs '{folder.name}' is not there: name one with --logs")
    newest: dict[str, Path] = {}
    # Names end in the time of the run, so the last in order is the newest.
    for file in sorted(folder.rglob("samples_*.jsonl"), key=lambda path: path.name):
        found = _NAME.fullmatch(file.name)
        newest[found[1] if found else file.stem.removeprefix("samples_")] = file
    if not newest:
        raise TaskError(
            f"'{folder.name}' has no samples_TASK_TIME.jsonl: run lm_eval with --log_samples"
            " --output_path DIR, and name that folder"
        )
    return {name: _scores(name, file) for name, file in sorted(newest.items())}


def _scores(name: str, file: Path) -> TaskScores:
    rows: list[dict[str, object]] = []
    # Not `splitlines`: a text may hold characters such as U+2028, which end no line of a file.
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parsed(line)
        except ValueError as error:
            raise TaskError(f"'{file.name}', line {number} is not JSON: {error}") from error
        if not isinstance(row, dict) or "doc_id" not in row:
            raise TaskError(
                f"'{file.name}', line {number} has no doc_id: it is no sample of lm_eval"
            )
        rows.append(row)
    if not rows:
        raise TaskError(f"'{file.name}' is empty: it has no samples")
    rows = [row for row in rows if row.get("filter") == rows[0].get("filter")]
    rows.sort(key=lambda row: int(str(row["doc_id"])))
    metrics = [
        metric
        for metric in rows[0]
        if metric not in _OF_ITEMS and all(isinstance(row.get(metric), int | float) for row in rows)
    ]
    metrics.sort(key=lambda one: HEADLINES.index(one) if one in HEADLINES else len(HEADLINES))
    if not metrics:
        raise TaskError(f"'{file.name}' has no score per item, such as acc: it cannot be compared")
    scores = {one: np.array([row[one] for row in rows], dtype=np.float64) for one in metrics}
    items = tuple(str(row.get("doc_hash", row["doc_id"])) for row in rows)
    return TaskScores(name, scores, items, truncated=0)
