"""How coalitions were chosen: the method, the finalists, targets, utilities, and the cost."""

from dataclasses import dataclass

from coterie.plain import Json
from coterie.report.schema.basics import TextPart
from coterie.report.schema.contributions import ContributionsPart
from coterie.report.schema.part import Part


@dataclass(frozen=True)
class SearchPart(Part):
    """How the coalitions were chosen and run."""

    method: str
    surrogate: str
    utility: str
    settings: dict[str, Json]
    seed: int
    # How they were run: these move the last bits of a loss.
    device: str
    dtype: str
    dtype_reason: str
    attention: str
    mode: str
    shape: Json
    """Batch shape of the engine, chosen once and kept on resume."""


@dataclass(frozen=True)
class FinalistPart(Part):
    """What one method would cut, and how it stands to the winner of its size on the same texts."""

    method: str
    removed: list[int]
    removed_labels: list[str]
    behind: float
    """Extra loss over the winner, nats per token; nothing where it is the same coalition."""
    error: float | None
    """Standard error of that difference, paired by document."""


@dataclass(frozen=True)
class SizeChoicePart(Part):
    """The best coalition found of one size."""

    size: int
    method: str
    """Who found it first; of equals the first named."""
    removed: list[int]
    kept: list[int]
    removed_labels: list[str]
    # By how much, on the texts that decided.
    loss: float
    """Nats per token, on the texts that decided."""
    excess: float
    """The same above the full model."""
    error: float | None
    """Standard error of the excess, paired by document."""
    finalists: list[FinalistPart]


@dataclass(frozen=True, kw_only=True)
class ChoicePart(Part):
    """How the coalition was chosen between finalists; the texts here never judge."""

    sequences: int
    documents: int
    second: TextPart | None
    """Texts that decided beside those that calibrate; null where the latter decided alone."""
    sizes: list[SizeChoicePart]
    unit: str | None = None
    """What losses are in; nats per token where it is absent."""
    # How to read the front.
    nested: bool
    """Whether each coalition lies inside the next larger one."""
    out_of_time: bool
    remark: str | None
    """What the allowance did not reach for, in one sentence."""
    comparisons: int | None = None
    """Coalitions of these sizes that were compared: the best of many is partly the luckiest."""
    decided_apart: bool | None = None
    """Whether items that chose nothing decided between the finalists of a mix."""


@dataclass(frozen=True)
class TargetPart(Part):
    """What was to be reached, and what is."""

    name: str
    asked: float
    unit: str
    before: float
    most: float
    after: float


@dataclass(frozen=True, kw_only=True)
class UtilityPart(Part):
    """One utility of a mix."""

    # Which utility, and how much of the mix it is.
    name: str
    measure: str
    weight: float
    units: int
    """Items of a task, or sequences of text."""
    full: float
    """What the full model scores."""
    cut: float | None = None
    """What the cut model scores on the same items or texts, which are those that chose it."""
    scale: float
    """Mean absolute change of the score when one single layer is skipped."""
    contributions: ContributionsPart | None
    """Null where a search observed too little to tell."""


@dataclass(frozen=True)
class MixPart(Part):
    """The utilities a cut was chosen by, instead of the loss on calibration text."""

    # As it was typed, so that the mix can be asked for again.
    spec: str
    unit: str
    items: int
    """Most items of each task that were asked."""
    parts: list[UtilityPart]


@dataclass(frozen=True)
class BudgetPart(Part):
    """What the search cost: asked as if alone, executed in truth."""

    distinct: int
    known: int
    """Coalitions already in the store when the run began."""
    # Work: asked is fair between methods, executed is what this run did.
    layer_tokens_asked: int
    layer_tokens_executed: int
    head_tokens: int
    not_finite: int
    seconds: dict[str, float]
