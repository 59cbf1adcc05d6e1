"""What repair, healing and quantizing did, as parts of `coterie.json`."""

from dataclasses import dataclass

from coterie.plain import Json
from coterie.report.schema.basics import TextPart
from coterie.report.schema.generation import BesidePart
from coterie.report.schema.part import Part
from coterie.report.schema.verdict import DifferencePart, PerplexityPart


@dataclass(frozen=True)
class CachePart(Part):
    """What is kept on disk of a teacher that was asked once."""

    # The three numbers that say how much of the teacher the files hold.
    top: int
    """Most likely tokens kept of every prediction."""
    rest: float | None
    """Mean mass of the tokens that are not kept; None where all are."""
    disk_bytes: int


@dataclass(frozen=True)
class RatePart(Part):
    """A learning rate that a sweep tried, and its loss there; null where it was no number."""

    rate: float
    kl: float | None


@dataclass(frozen=True)
class WatchedPart(Part):
    """The loss on a text that was watched, nats per token, after so many steps."""

    step: int
    nll: float


@dataclass(frozen=True, kw_only=True)
class LearningPart(Part):
    """How the cut checkpoint learned."""

    mode: str
    rank: int | None
    learning_rate: float
    seams: float
    batch: int
    # How long: a run that was stopped may end before what was asked.
    steps: int
    steps_asked: int
    tokens: int
    seconds: float
    trained_parameters: int
    # What it gained: the distance to the teacher, first and last.
    kl_first: float
    """Nats per token on training text, mean over the first tenth of the steps."""
    kl_last: float
    curve: list[float] | None = None
    """KL on training text from first to last step, means over stretches of equally many steps."""
    cache: CachePart | None = None
    """Where the teacher was not asked at every step; with a rest, the KL is a lower bound."""
    # The other losses, measured likewise; absent in older records.
    text_first: float | None = None
    """Cross-entropy of the text, nats per token."""
    text_last: float | None = None
    states_first: float | None = None
    """Distance of the states after the gaps, as a share of their size; absent without a weight."""
    states_last: float | None = None
    rates: list[RatePart] | None = None
    watched: list[WatchedPart] | None = None


@dataclass(frozen=True)
class ReloadPart(Part):
    """How near the reloaded checkpoint is to the model in memory."""

    # Compared on the same input; the largest logit gives the scale.
    max_logit_difference: float
    largest_logit: float


@dataclass(frozen=True)
class GapPart(Part):
    """One gap of a cut, and the loss with everything up to the next gap repaired."""

    gone: list[int]
    """The layers that went there."""
    loss: float
    """Nats per token; less the loss at the gap before, this is what this one gave back."""


@dataclass(frozen=True)
class GapsPart(Part):
    """What an applied repair gave back at every gap, from the first to the last."""

    sequences: int
    """How many of the selection texts this was measured on."""
    as_cut: float
    gaps: list[GapPart]


@dataclass(frozen=True, kw_only=True)
class RepairPart(Part):
    """How the cut checkpoint was refitted."""

    name: str
    """The repair that is applied; `none` where none lowers the loss on the selection texts."""
    selection_sequences: int
    as_cut: float
    """Loss on the selection texts without any repair, nats per token."""
    tried: dict[str, float]
    """The same with every repair that was tried."""
    changed: int
    """Tensors that are not those of the full model."""
    seconds: float
    remarks: list[str]
    by_gap: GapsPart | None = None
    """Absent where nothing was applied."""


@dataclass(frozen=True, kw_only=True)
class AfterPart(Part):
    """One thing that was done to a checkpoint after the cut, and what it did on held-out text."""

    # What was done, and by which command.
    what: str
    """`heal`, `quantize` or `repair`."""
    command: str
    settings: dict[str, Json]
    text: TextPart | None = None
    """What it learned from."""
    # What it cost or gave, on texts that neither chose nor taught.
    held_out: TextPart
    full: PerplexityPart | None = None
    before: PerplexityPart
    after: PerplexityPart
    difference: DifferencePart
    """After minus before, paired."""
    recovered: float | None = None
    """Share of the loss that the cut had cost."""
    beside: BesidePart | None = None
    """How near it is to the model it is held against; absent where that was not in memory."""
    grade: str | None = None
    """As the verdict of a cut has it; absent where it was not held against the full model."""
    sentence: str | None = None
    """The same with its reason and what to do."""
    # Only of healing.
    learning: LearningPart | None = None
    repair: RepairPart | None = None
    reloaded: ReloadPart | None = None
    # Only of quantizing.
    group: int | None = None
    """Inputs that share a scale, where the scheme does not say."""
    loads_with: str | None = None
    """The package that loads it beside transformers, where it needs one."""
    bytes_before: int
    bytes_after: int
    not_finite: int
    """Held-out losses afterwards that were not finite and were read as the floor."""
    versions: dict[str, str]
    machine: dict[str, str | int]

    def as_json(self) -> dict[str, Json]:
        """The part as plain JSON; a healing of a cut that had cost nothing recovered null of it."""
        whole = super().as_json()
        return whole if self.learning is None else {**whole, "recovered": self.recovered}
