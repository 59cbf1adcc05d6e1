"""What a sparse checkpoint would take, before anything is done: its shape as plain JSON."""

from dataclasses import dataclass

from coterie.plain import Json
from coterie.report.schema.basics import ModelPart, TextPart
from coterie.report.schema.part import Part


@dataclass(frozen=True)
class UnitSizePart(Part):
    """What has a sparsity of its own, and how large it is."""

    # Whole layers, or blocks where an allocation gives these their own sparsity.
    unit: str
    weights: int


@dataclass(frozen=True)
class ContributionsCostPart(Part):
    """What contributions will ask of the model."""

    how: str
    coalitions: int
    known: int
    """Coalitions that the store has already."""
    # Work, as if nothing were known and with the store.
    layer_executions: int
    """Layers run on a prefix over all calibration texts, as if nothing were known."""
    layer_tokens_asked: int
    layer_tokens_executed: int


@dataclass(frozen=True)
class SharingCostPart(Part):
    """What sharing the target out will ask beyond contributions."""

    # Most of the cost where allocations are compared.
    what: str
    candidates: float
    """Variants of the whole model judged at most, each weighted with its share of the texts."""
    layer_tokens: int
    """Asked at most, each candidate as if alone."""
    measuring_layer_tokens: int
    """Of the texts for pruning on their way through the unpruned layers, measured for it."""


@dataclass(kw_only=True)
class SparsityPlan(Part):
    """A whole plan, as plain JSON."""

    kind: str
    command: str
    request: dict[str, Json]
    model: ModelPart
    calibration: TextPart
    pruning: TextPart | None
    """What layers are measured on, where they are."""
    held_out: TextPart
    # Whether it can be reached at all.
    target: float
    pattern: str | None
    reachable: list[float]
    """Least and most of the target that the bounds of the units allow."""
    units: list[UnitSizePart]
    # The work, act by act.
    contributions: ContributionsCostPart | None
    sharing: SharingCostPart | None
    pruning_layer_tokens: int
    """Of the texts for pruning on their way through the layers, measured and then pruned."""
    judging_layer_tokens: int
    memory_bytes: int
    """Weights, and states of the game."""
    pruning_memory_bytes: int
    """Beside the weights: states of the texts for pruning, statistics, pruned layers."""
    disk_bytes: int
    temporary_bytes: int
    """Of files that are gone when the run ends: variants and statistics that memory had no room
    for, the model without the layers that are cut."""
    seconds: float
    """Of running layers; what the pruner itself computes is not foreseen."""
    pass_bytes: int | None = None
    """Streamed: bytes of layers that every pass reads from disk."""
