"""What models score on texts and tasks, side by side: its shape as plain JSON.

The first model is the one the others are compared with, item by item and sequence by sequence.
"""

from dataclasses import dataclass

from coterie.plain import Json
from coterie.report.schema.generation import BesidePart
from coterie.report.schema.part import Part
from coterie.report.schema.significance import SignificancePart


@dataclass(frozen=True)
class EstimatePart(Part):
    """A mean with its standard error; null where there is none."""

    # The mean has an error only over two documents or more.
    mean: float | None
    error: float | None


@dataclass(frozen=True)
class PerplexityRow(Part):
    """One model on one text: nats per token, errors over documents."""

    # Which text: two rows of one hash and length are comparable.
    text: str
    sha256: str
    length: int
    sequences: int
    documents: int
    bos: bool
    # The score, and the paired difference that tells models apart.
    nll: EstimatePart
    perplexity: EstimatePart
    difference: EstimatePart | None
    """Loss less the first model's, paired; null for the first, and where the tokens differ."""
    not_finite: int


@dataclass(frozen=True)
class TaskRow(Part):
    """One model on one task: errors over items."""

    # Which task, and under which name it was asked for.
    task: str
    group: str
    """The name it was asked under: ``anli`` is three tasks."""
    metric: str
    """The metric that is printed; `metrics` holds all."""
    # The score; at chance it says nothing about the model.
    score: EstimatePart
    difference: EstimatePart | None
    items: int
    chance: float | None
    at_chance: bool
    truncated: int
    metrics: dict[str, EstimatePart]
    # Harness, shots and hashes: what a score depends on.
    provenance: dict[str, Json]


@dataclass(frozen=True)
class ModelRow(Part):
    """One model and all it scored."""

    name: str
    fingerprint: str
    parameters: int
    bytes: int
    # What it scored, in the order the texts and tasks were asked.
    perplexity: list[PerplexityRow]
    tasks: list[TaskRow]
    average: EstimatePart | None
    """Over the tasks as they were asked, a group counting once."""
    beside: BesidePart | None = None
    """How near it is to the first on the first text; absent for the first, and without texts."""


@dataclass(frozen=True)
class Judgement(Part):
    """A whole report of `coterie evaluate`."""

    kind: str
    command: str
    dtype: str
    device: str
    models: list[ModelRow]
    versions: dict[str, str]
    machine: dict[str, str | int]
    significance: SignificancePart | None = None
    """Tests of every task's difference; absent where there are no two models, or no tasks."""
