"""Scores on a task, item by item: means with errors, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from coterie.game.coalitions import Vector
from coterie.plain import Json
from coterie.scores.errors import TaskError

HEADLINES = ("acc_norm", "acc", "exact_match")
"""The metric a task is read by: the first of these it has, else its own first one."""


@dataclass(frozen=True)
class MeanScore:
    """A mean and its standard error over items."""

    mean: float
    standard_error: float
    n_items: int


@dataclass(frozen=True, eq=False)
class TaskScores:
    """What one model scored on one task, item by item."""

    task: str
    scores: Mapping[str, Vector]
    """Metric → ``(n_items,)``. ``margin`` is the log-likelihood of the right choice less that of
    the best wrong one, in nats; every other name is the harness's."""
    items: tuple[str, ...]
    """A hash of each item, to pair two models by."""
    truncated: int
    """Texts that did not fit the model's context and lost their beginning."""
    provenance: Mapping[str, str | int | None] = field(default_factory=dict)
    """Versions of task and harness, number of shots, BOS policy, limit."""
    chance: float | None = None
    """What guessing scores in ``acc`` and ``acc_norm``; None where nothing is to be chosen."""

    @property
    def headline(self) -> str:
        """The metric the task is read by."""
        return next((name for name in HEADLINES if name in self.scores), next(iter(self.scores)))

    def estimate(self, metric: str | None = None) -> MeanScore:
        """The mean of a metric with its standard error; the headline when none is named."""
        return mean_score(self.scores[metric or self.headline])

    @property
    def at_chance(self) -> bool:
        """Whether the headline lies within two standard errors of what guessing scores."""
        found = self.estimate()
        if self.chance is None or self.headline not in ("acc", "acc_norm"):
            return False
        return not abs(found.mean - self.chance) > 2 * found.standard_error

    def as_json(self) -> dict[str, Json]:
        """Plain data, from which `from_json` makes the same again."""
        scores = {name: list(map(float, values)) for name, values in self.scores.items()}
        return {**vars(self), "scores": scores, "provenance": dict(self.provenance)}

    @classmethod
    def from_json(cls, content: Mapping[str, Json]) -> "TaskScores":
        """What `as_json` made plain."""
        fields = dict(content)
        found = {name: np.array(values) for name, values in fields.pop("scores").items()}  # type: ignore[union-attr]
        items = tuple(fields.pop("items"))  # type: ignore[arg-type]
        return cls(scores=found, items=items, **fields)  # type: ignore[arg-type]


def paired_difference(a: TaskScores, b: TaskScores, metric: str | None = None) -> MeanScore:
    """``a − b`` on one task, item by item, with the standard error of the paired difference.

    Args:
        a: One score.
        b: The other, on the same items.
        metric: The name of the metric; None is that of the task.

    Raises:
        TaskError: different tasks, items or settings, which cannot be compared.
    """
    if a.task != b.task:
        raise TaskError(f"scores of '{a.task}' and of '{b.task}' cannot be paired: not one task")
    if a.items != b.items or a.provenance != b.provenance:
        what = "items" if a.items != b.items else "settings"
        raise TaskError(
            f"two scores of '{a.task}' differ in their {what}: score both models in one run"
        )
    name = metric or a.headline
    return mean_score(a.scores[name] - b.scores[name])


def average(estimates: Sequence[MeanScore]) -> MeanScore:
    """The plain mean over tasks; their items are different, so the errors are independent."""
    if not estimates:
        raise TaskError("an average needs at least one task")
    # Errors of independent means add in squares.
    squares = sum(estimate.standard_error**2 for estimate in estimates)
    return MeanScore(
        float(np.mean([estimate.mean for estimate in estimates])),
        float(np.sqrt(squares)) / len(estimates),
        sum(estimate.n_items for estimate in estimates),
    )


def mean_score(scores: Vector) -> MeanScore:
    n = len(scores)
    error = float(scores.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return MeanScore(float(scores.mean()), error, n)
