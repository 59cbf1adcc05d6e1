"""The record of a sparse checkpoint: its shape as plain JSON."""

from dataclasses import dataclass, field

from coterie.plain import Json
from coterie.report.schema.basics import ModelPart, SizePart, StreamPart, TextPart
from coterie.report.schema.cluster import ClusterPart
from coterie.report.schema.part import Part
from coterie.report.schema.record import CheckpointRecord


@dataclass(frozen=True)
class UnitPart(Part):
    """One layer, or block of a layer."""

    # Which unit, and how large it is.
    unit: str
    layer: int
    weights: int
    contribution: float | None
    """In the unit of `contributions`; null where none was measured, or the layer cannot be cut."""
    # Shares of zeros: what the allocation gave, and what is counted in the files.
    asked: float
    realised: float
    cut: bool


@dataclass(frozen=True)
class SparsityPart(Part):
    """What was asked and what there is, counted after the checkpoint was read back."""

    target: float
    pattern: str | None
    allocation: str
    pruner: str
    contributions: str | None
    asked: float
    """Share of zeros of all prunable weights of the source, cut layers counted as zeros."""
    realised: float
    zeros: int
    """Zeros in the linear maps of the checkpoint."""
    weights: int
    """Weights of those linear maps."""
    damping: float | None
    """Largest share of its mean diagonal that a Hessian was damped by."""
    judged_on: list[int] | None
    """Fewest and most calibration inputs of a pruned map; null where the pruner needs none."""
    unseen: list[str]
    """Pruned maps that no calibration input reached: weights alone decided in them."""
    units: list[UnitPart]


@dataclass(frozen=True)
class SparsityCostPart(Part):
    """What was asked of the model before it was pruned."""

    # Of contributions; judging allocations is counted under `choice`.
    coalitions: int
    layer_tokens_asked: int
    not_finite: int
    seconds: dict[str, float]
    choice: dict[str, Json]
    """What choosing the allocation tried, and what it gave."""


@dataclass(kw_only=True)
class SparsityRecord(CheckpointRecord):
    """A whole report of `sparsify`, as `coterie.json` holds it."""

    command: str = field()
    request: dict[str, Json] = field()
    identity: dict[str, Json] = field()
    model: ModelPart = field()
    calibration: TextPart = field()
    pruning: TextPart | None
    """What maps were measured on, the calibration's sequences among it; null where none was."""
    held_out: TextPart = field()
    # What came out, and what it cost.
    sparsity: SparsityPart
    cost: SparsityCostPart
    versions: dict[str, str]
    machine: dict[str, str | int]
    dtype: str
    streaming: StreamPart | None = None
    cluster: ClusterPart | None = None
    size: SizePart | None = None
    verification: dict[str, Json] | None = None
