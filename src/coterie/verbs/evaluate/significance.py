"""Which differences between models are more than chance: of models scored here, or of logs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from coterie.errors import UserError
from coterie.report.schema.significance import LogsReport, PairedRow, SignificancePart
from coterie.scores.harness_logs import read_logs
from coterie.scores.significance import PairedTest, holm, paired_test
from coterie.scores.task_scores import TaskScores
from coterie.verbs.evaluate.request import EvaluateRequest
from coterie.verbs.shared.provenance import bare, versions

Named = tuple[str, Mapping[str, TaskScores]]
"""The name of a model, and its scores by task."""


def significance(models: Sequence[Named], margin: float, seed: int) -> SignificancePart | None:
    """Every model against the first, task by task; None where there is nothing to compare.

    Args:
        models: The first is what the others are compared with; tasks are those of the first.
        margin: How much worse is not worth a mention, as a share.
        seed: Of the bootstrap.
    """
    name, scores = models[0]
    found: list[PairedTest] = []
    metrics: list[tuple[str, str, str]] = []
    for other, theirs in models[1:]:
        for task, first in scores.items():
            # A generator of its own: a task's interval does not depend on which came before.
            rng = np.random.default_rng([seed, crc32(task.encode()), crc32(other.encode())])
            metric = first.headline
            metrics.append((task, metric, other))
            found.append(paired_test(first.scores[metric], theirs[task].scores[metric], rng=rng))
    if not found:
        return None
    together = holm([one.p for one in found])
    rows = [
        PairedRow(
            task=task,
            metric=metric,
            first=name,
            second=other,
            items=one.items,
            score_first=one.first,
            score_second=one.second,
            difference=one.difference,
            low=one.low,
            high=one.high,
            only_first=one.only_first,
            only_second=one.only_second,
            p=one.p,
            p_holm=p_holm,
            bound=one.bound,
            not_inferior=one.not_inferior(margin),
        )
        for (task, metric, other), one, p_holm in zip(metrics, found, together, strict=True)
    ]
    return SignificancePart(margin=margin, comparisons=len(rows), rows=rows)


def compare_logs(request: EvaluateRequest) -> LogsReport:
    """Compare what lm-evaluation-harness has logged of two runs or more, item by item.

    Raises:
        UserError: fewer than two folders, a log that cannot be read, or no task in common.
    """
    request.check()
    # Named by the last part of the folder, or by more of it where these are the same.
    names = [str(bare(folder)) for folder in request.models]
    if len(set(names)) < len(names):
        names = [f"{place + 1}: {name}" for place, name in enumerate(names)]
    logs = [read_logs(Path(folder)) for folder in request.models]
    every = list(dict.fromkeys(task for one in logs for task in one))
    shared = [task for task in every if _same_items(task, logs)]
    if not shared:
        raise UserError(
            f"{' and '.join(names)} have no task in common with the same items: log the same tasks"
            " with the same --limit in both"
        )
    models = [
        (name, {task: one[task] for task in shared}) for name, one in zip(names, logs, strict=True)
    ]
    part = significance(models, request.margin, request.seed)
    assert part is not None  # two folders at least, and a task
    return LogsReport(
        kind="evaluate-logs",
        command=request.command(),
        significance=part,
        left_out=[task for task in every if task not in shared],
        versions=versions(),
    )


def _same_items(task: str, logs: Sequence[Mapping[str, TaskScores]]) -> bool:
    """Whether all have this task, with the same items and the metric it is read by."""
    if not all(task in one for one in logs):
        return False
    first = logs[0][task]
    return all(
        one[task].items == first.items and first.headline in one[task].scores for one in logs[1:]
    )
