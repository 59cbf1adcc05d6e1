"""What healing and quantising did, as parts of `coterie.json`."""

from typing import NotRequired, TypedDict

from coterie.plain import Json
from coterie.report.schema.prune import DifferencePart, PerplexityPart, TextPart


class LearningPart(TypedDict):
    """How the cut checkpoint learned."""

    mode: str
    rank: int | None
    learning_rate: float
    seams: float
    batch: int
    steps: int
    steps_asked: int
    tokens: int
    seconds: float
    trained_parameters: int
    kl_first: float
    """Nats per token on training text, mean over the first tenth of the steps."""
    kl_last: float
    cache: NotRequired["CachePart"]
    """Where the teacher was not asked at every step; with a rest, the KL is a lower bound."""


class CachePart(TypedDict):
    """What a teacher that was asked once has left in files."""

    top: int
    """Most likely tokens kept of every prediction."""
    rest: float | None
    """Mean mass of the tokens that are not kept; None where all are."""
    disk_bytes: int


class ReloadPart(TypedDict):
    """How near the reloaded checkpoint is to the model in memory."""

    max_logit_difference: float
    largest_logit: float


class AfterPart(TypedDict):
    """One thing that was done to a checkpoint after the cut, and what it did on held-out text."""

    what: str
    """`heal` or `quantize`."""
    command: str
    settings: dict[str, Json]
    text: NotRequired[TextPart]
    """What it learned from."""
    held_out: TextPart
    full: NotRequired[PerplexityPart]
    before: PerplexityPart
    after: PerplexityPart
    difference: DifferencePart
    """After minus before, paired."""
    recovered: NotRequired[float | None]
    """Share of the loss that the cut had cost."""
    learning: NotRequired[LearningPart]
    reloaded: NotRequired[ReloadPart]
    group: NotRequired[int]
    """Inputs that share a scale, where the scheme does not say."""
    bytes_before: int
    bytes_after: int
    not_finite: int
    versions: dict[str, str]
    machine: dict[str, str | int]
