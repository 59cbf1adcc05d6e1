"""The shape of `coterie.json`: everything a run found, with its provenance, as plain JSON.

No absolute path, no user's name. A number that does not exist is null. Layers and players count
from 0; where players are blocks of layers, their labels (`3.attention`) stand beside the numbers.
"""

from typing import NotRequired, TypedDict

from coterie.plain import Json


class ModelPart(TypedDict):
    """The model as it came."""

    name: str
    hub_id: str | None
    revision: str | None
    fingerprint: str
    architecture: str
    stack: str
    players: int
    player_kind: str
    """What a player is: layer, attention, mlp, or sublayer (either block)."""
    locked: dict[str, str]
    """Labels of the players that cannot go, with the reason."""
    dtype: str


class SearchPart(TypedDict):
    """How the coalitions were chosen and run."""

    method: str
    surrogate: str
    utility: str
    settings: dict[str, Json]
    seed: int
    device: str
    dtype: str
    dtype_reason: str
    attention: str
    mode: str
    shape: Json
    """Batch shape of the engine, chosen once and kept on resume."""


class TextPart(TypedDict):
    """A set of sequences."""

    description: str
    sha256: str
    sequences: int
    length: int
    documents: int
    bos: bool


class StratumPart(TypedDict):
    """Coalitions of one size that were observed."""

    size: int
    coalitions: int
    population: int


class LayerPart(TypedDict):
    """One player's contribution with its standard errors by source; null for a locked one."""

    layer: int
    """The decoder layer that the player is, or is a block of."""
    player: str
    """The player's label: the layer's number, for a block with its kind."""
    value: float | None
    error_sampling: float | None
    error_texts: float | None
    low: float | None
    high: float | None


class ContributionsPart(TypedDict):
    """Every player's contribution, in the order of the players."""

    semivalue: str
    unit: str
    replicates: int
    """Refits of the surrogate behind each standard error."""
    base_coalitions: int
    confidence: float
    layers: list[LayerPart]


class UtilityPart(TypedDict):
    """One utility of a mix."""

    name: str
    measure: str
    weight: float
    units: int
    """Items of a task, or sequences of text."""
    full: float
    """What the full model scores."""
    cut: NotRequired[float]
    """What the cut model scores on the same items or texts, which are those that chose it."""
    scale: float
    """Mean absolute change of the score when one single layer is skipped."""
    contributions: ContributionsPart | None
    """Null where a search observed too little to tell."""


class MixPart(TypedDict):
    """The utilities a cut was chosen by, instead of the loss on calibration text."""

    spec: str
    unit: str
    items: int
    """Most items of each task that were asked."""
    parts: list[UtilityPart]


class AgreementPart(TypedDict):
    """How surrogate and game agree on coalitions the surrogate was not fitted to."""

    r2: float | None
    spearman: float | None
    coalitions: int


class FidelityPart(TypedDict):
    """The surrogate's held-out fidelity."""

    how: str
    overall: AgreementPart
    by_size: dict[str, AgreementPart]
    requested_size: int | None
    requested: AgreementPart | None


class ClosestPart(TypedDict):
    """The closest call: the lowest contribution kept against the highest one cut."""

    kept: int
    removed: int
    difference: float
    error: float
    """Standard error of the difference, both sources, taking the two players as independent."""


class CutPart(TypedDict):
    """The decision: numbers of players, and the labels of the same players."""

    removed: list[int]
    kept: list[int]
    removed_labels: list[str]
    kept_labels: list[str]
    closest: ClosestPart | None
    """Null where finalists were compared directly: see the choice."""


class FinalistPart(TypedDict):
    """What one method would cut, and how it stands to the winner of its size on the same texts."""

    method: str
    removed: list[int]
    removed_labels: list[str]
    behind: float
    """Extra loss over the winner, nats per token; nothing where it is the same coalition."""
    error: float | None
    """Standard error of that difference, paired by document."""


class SizeChoicePart(TypedDict):
    """The best coalition found of one size."""

    size: int
    method: str
    """Who found it first; of equals the first named."""
    removed: list[int]
    kept: list[int]
    removed_labels: list[str]
    loss: float
    """Nats per token, on the texts that decided."""
    excess: float
    """The same above the full model."""
    error: float | None
    """Standard error of the excess, paired by document."""
    finalists: list[FinalistPart]


class ChoicePart(TypedDict):
    """How the coalition was chosen between finalists; the texts here never judge."""

    sequences: int
    documents: int
    second: TextPart | None
    """Texts that decided beside those that calibrate; null where the latter decided alone."""
    sizes: list[SizeChoicePart]
    unit: NotRequired[str]
    """What losses are in; nats per token where it is absent."""
    nested: bool
    """Whether each coalition lies inside the next larger one."""
    out_of_time: bool
    remark: str | None
    """What the allowance did not reach for, in one sentence."""


class TargetPart(TypedDict):
    """What was to be reached, and what is."""

    name: str
    asked: float
    unit: str
    before: float
    most: float
    after: float


class PerplexityPart(TypedDict):
    """Held-out loss of one model: nats per token, perplexity and its standard error."""

    nll: float
    perplexity: float
    error: float | None


class DifferencePart(TypedDict):
    """Change of the held-out loss, nats per token, paired sequence by sequence, over documents."""

    nll: float
    error: float | None
    documents: int


class VerdictPart(TypedDict):
    """What the cut cost on texts that did not choose it."""

    before: PerplexityPart
    after: PerplexityPart
    difference: DifferencePart
    ratio: float
    kl: float | None
    top1: float | None
    not_finite: int
    """Held-out losses that were not finite and were read as the floor."""


class SizePart(TypedDict):
    """Weights before and after."""

    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int


class OverlapPart(TypedDict):
    """How much comes back between every two of some runs."""

    over: str
    """What differs between the runs: the seed of the search, or the calibration texts."""
    runs: int
    ranks: list[float | None]
    """Spearman correlation of the contributions of every two runs; null where one has none."""
    cuts: list[float]
    """Jaccard overlap of the players cut by every two runs."""
    removed: list[list[int]]
    """What each run would cut."""


class StabilityPart(TypedDict):
    """How much of the answer comes back."""

    removed: int
    method: str
    overlaps: list[OverlapPart]


class PairPart(TypedDict):
    """What two players have to do with each other; negative: they stand in for each other."""

    players: list[int]
    labels: list[str]
    value: float | None
    error_sampling: float | None
    error_texts: float | None


class InteractionsPart(TypedDict):
    """Interaction of every two players that are not locked."""

    name: str
    unit: str
    base_coalitions: int
    pairs: list[PairPart]


class StreamPart(TypedDict):
    """What it took to read the layers from disk instead of holding them."""

    passes: int
    """Times the layers were read from first to last, on whatever texts."""
    bytes_read: int
    """With what was read to get ready."""
    bytes_per_coalition: float
    bytes_spilled: int
    """States that memory had no room for, written to files."""
    seconds_reading: float
    seconds_waiting: float
    """The part of reading that computing did not hide."""
    checked: str
    """What was compared with the model's own forward."""


class BudgetPart(TypedDict):
    """What the search cost: asked as if alone, executed in truth."""

    distinct: int
    known: int
    """Coalitions already in the store when the run began."""
    layer_tokens_asked: int
    layer_tokens_executed: int
    head_tokens: int
    not_finite: int
    seconds: dict[str, float]


class StagePart(TypedDict):
    """What a composed run does beside the cut, before it is done."""

    what: str
    detail: str
    layer_tokens: int
    """Of learning and judging; a step forward and back counts as three passes."""
    disk_bytes: int
    """At most, until the run has ended."""
    seconds: float | None
    """By the rate of the search; null where the search runs no layers."""


class PlanPart(TypedDict):
    """What a run would cost, before it is run."""

    distinct: int
    known: int
    sequences: int
    layer_executions: int
    layer_tokens_asked: int
    layer_tokens_executed: int
    head_tokens: int
    memory_bytes: int
    disk_bytes: int
    seconds: float
    pass_bytes: NotRequired[int]
    """Streamed: bytes of layers that every question reads from disk."""
    keep: NotRequired[int]
    """Players that will be left; of a target, the fewest it may come to."""
    source_bytes: NotRequired[int]
    """Of the model as it comes."""
    stages: NotRequired[list[StagePart]]
    """What is done before and after the cut, in order."""
    answers: NotRequired[int]
    """Answers to items of tasks, asked of every coalition."""
    at_most: NotRequired[bool]
    """A search decides as it goes: these are its limits, with nothing shared between prefixes."""


class Record(TypedDict):
    """A whole report. Parts a verb does not reach are absent."""

    kind: str
    command: str
    request: dict[str, Json]
    identity: dict[str, Json]
    """What decides the answer; a finished run with the same identity is only reported again."""
    model: ModelPart
    calibration: TextPart
    search: SearchPart
    versions: dict[str, str]
    machine: dict[str, str | int]
    held_out: NotRequired[TextPart]
    strata: NotRequired[list[StratumPart]]
    contributions: NotRequired[ContributionsPart | None]
    """Null where a search observed too little to tell what each player contributes."""
    fidelity: NotRequired[FidelityPart | None]
    choice: NotRequired[ChoicePart]
    utility: NotRequired[MixPart]
    target: NotRequired[TargetPart]
    stability: NotRequired[StabilityPart]
    interactions: NotRequired[InteractionsPart]
    cut: NotRequired[CutPart]
    verdict: NotRequired[VerdictPart]
    size: NotRequired[SizePart]
    verification: NotRequired[dict[str, Json]]
    runtimes: NotRequired[list[str]]
    """What loads a checkpoint that lacks single blocks; absent where it is an ordinary one."""
    budget: NotRequired[BudgetPart]
    breakdowns: NotRequired[list[str]]
    """Coalitions without a finite loss in this run: on how many texts, and in which layer."""
    streaming: NotRequired[StreamPart]
    plan: NotRequired[PlanPart]
