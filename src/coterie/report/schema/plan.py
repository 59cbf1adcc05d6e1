"""What a run would cost, stated before it is run."""

from dataclasses import dataclass

from coterie.report.schema.basics import TextPart
from coterie.report.schema.part import Part


@dataclass(frozen=True, kw_only=True)
class HealPlan(Part):
    """What a healing would do and cost; nothing was written."""

    kind: str
    command: str
    mode: str
    steps: int
    batch: int
    length: int
    """Tokens of a sequence."""
    tokens: int
    """Read in all, repetitions counted."""
    sequences: int
    """Different sequences that there are to learn from."""
    trained_parameters: int
    seconds: float
    """Of the steps, from two that were done and thrown away; loading and judging come on top."""
    memory_bytes: int
    """Weights, gradients and the optimizer's moments; what is inside the layers comes on top."""
    disk_bytes: int
    """The checkpoint, the half-way state beside it, and the teacher's predictions where kept."""
    text: TextPart


@dataclass(frozen=True)
class StagePart(Part):
    """What a composed run does beside the cut, before it is done."""

    # What, and in the words of the verb that does it.
    what: str
    detail: str
    layer_tokens: int
    """Of learning and judging; a step forward and back counts as three passes."""
    disk_bytes: int
    """At most, until the run has ended."""
    seconds: float | None
    """By the rate of the search; null where the search runs no layers."""


@dataclass(frozen=True)
class PlannedTimePart(Part):
    """How long one part of a run takes."""

    what: str
    expected: float
    """Seconds."""
    most: float
    """Seconds; a limit of time is kept to."""


@dataclass(kw_only=True)
class PlanPart(Part):
    """What a run would cost, before it is run."""

    distinct: int
    known: int
    sequences: int
    layer_executions: int
    layer_tokens_asked: int
    layer_tokens_executed: int
    head_tokens: int
    # What it would take of the machine.
    memory_bytes: int
    disk_bytes: int
    seconds: float
    """Of the search alone, at most, whatever its limit of time."""
    # From here on only where it applies; absent otherwise.
    pass_bytes: int | None = None
    """Streamed: bytes of layers that every question reads from disk."""
    keep: int | None = None
    """Players that will be left; of a target, the fewest it may come to."""
    source_bytes: int | None = None
    """Of the model as it comes."""
    cuts: str | None = None
    """How much smaller the model becomes, in one sentence."""
    stages: list[StagePart] | None = None
    """What is done before and after the cut, in order."""
    answers: int | None = None
    """Answers to items of tasks, asked of every coalition."""
    times: list[PlannedTimePart] | None = None
    """How long each part of the run takes, in order."""
    expected_seconds: float | None = None
    most_seconds: float | None = None
    at_most: bool | None = None
    """A search decides as it goes: these are its limits, with nothing shared between prefixes."""
