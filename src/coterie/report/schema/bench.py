"""How fast models are and what memory they take: the shape of `coterie bench` as plain JSON.

The first model is the one the others are compared with.
"""

from dataclasses import dataclass

from coterie.report.schema.evaluate import EstimatePart
from coterie.report.schema.part import Part


@dataclass(frozen=True)
class TimePart(Part):
    """Seconds over the rounds: the median, and the quartiles around it."""

    # Quartiles, not a mean: one slow round must not move the figure.
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class SpeedRow(Part):
    """One model under one load."""

    name: str
    batch: int
    context: int
    new_tokens: int
    # What was measured in every round.
    prefill: TimePart
    first_token: TimePart
    next_token: TimePart
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    prefill_speedup: float
    """Median over the rounds of the first model's time over this one's."""
    decode_speedup: float
    # Memory: the weights by themselves, then the peak above them.
    weight_bytes: int
    extra_bytes: int | None
    """Peak above the weights; null where the system does not tell."""
    prefill_speedup_error: float | None = None
    """Standard error of that median; null of a single round, and in older reports."""
    decode_speedup_error: float | None = None
    """The same for the next token."""


@dataclass(frozen=True)
class SpeedReport(Part):
    """A whole report of `coterie bench`."""

    kind: str
    command: str
    dtype: str
    device: str
    rounds: int
    warmup: int
    rows: list[SpeedRow]
    quality: dict[str, EstimatePart]
    """Held-out perplexity by model; empty where no text was named."""
    quality_text: str | None
    versions: dict[str, str]
    machine: dict[str, str | int]
