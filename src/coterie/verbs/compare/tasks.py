"""Zero-shot accuracies of a comparison: over items, over tasks, and against the full model."""

from collections.abc import Mapping, Sequence

import numpy as np

from coterie.game.coalitions import Vector
from coterie.plain import Json
from coterie.report.schema.compare import MeanPart
from coterie.scores.task_scores import TaskScores


def accuracies(
    judged: Sequence[Mapping[str, Json]], whole_model: Mapping[str, Json]
) -> tuple[dict[str, MeanPart], MeanPart | None, MeanPart | None]:
    """Accuracy by the name asked for, over all of them, and less the full model's, item by item."""
    full = _scores(whole_model)
    each: dict[str, MeanPart] = {}
    parts: list[tuple[float, float]] = []
    gaps: list[tuple[float, float]] = []
    for name, whole in full.items():
        mine = [_scores(one)[name] for one in judged]
        # First over draws, item by item, so that the difference to the full model stays paired.
        items = [np.mean([scores[i] for scores in mine], axis=0) for i in range(len(whole))]
        part = _over(items)
        each[name] = MeanPart(mean=part[0], error=part[1])
        parts.append(part)
        gaps.append(_over([a - b for a, b in zip(items, whole, strict=True)]))
    return each, _average(parts), _average(gaps)


def _scores(judged: Mapping[str, Json]) -> dict[str, list[Vector]]:
    """The headline score of every item, by the name asked for and by task."""
    groups = judged["tasks"]
    assert isinstance(groups, Mapping)
    found: dict[str, list[Vector]] = {}
    for name, members in groups.items():
        assert isinstance(members, list)
        scores = [TaskScores.from_json(m) for m in members if isinstance(m, Mapping)]
        found[name] = [score.scores[score.headline] for score in scores]
    return found


def _over(items: Sequence[Vector]) -> tuple[float, float]:
    """Mean over the tasks of one name, and its standard error over items."""
    # Tasks are independent, so the variances of their means add up.
    squares = sum(part.var(ddof=1) / len(part) for part in items if len(part) > 1)
    mean = float(np.mean([part.mean() for part in items]))
    return mean, float(np.sqrt(squares)) / len(items)


def _average(parts: Sequence[tuple[float, float]]) -> MeanPart | None:
    if not parts:
        return None
    error = float(np.sqrt(sum(error**2 for _, error in parts))) / len(parts)
    return MeanPart(mean=float(np.mean([mean for mean, _ in parts])), error=error)
