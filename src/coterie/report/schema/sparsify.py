"""The record of a sparse checkpoint: its shape as plain JSON."""

from typing import NotRequired, TypedDict

from coterie.plain import Json
from coterie.report.schema.prune import ModelPart, SizePart, StreamPart, TextPart, VerdictPart


class UnitPart(TypedDict):
    """One layer, or block of a layer."""

    unit: str
    layer: int
    weights: int
    contribution: float | None
    """In the unit of `contributions`; null where none was measured, or the layer cannot be cut."""
    asked: float
    realised: float
    cut: bool


class SparsityPart(TypedDict):
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


class CostPart(TypedDict):
    """What was asked of the model before it was pruned."""

    coalitions: int
    layer_tokens_asked: int
    not_finite: int
    seconds: dict[str, float]
    choice: dict[str, Json]
    """What choosing the allocation tried, and what it gave."""


class SparsityRecord(TypedDict):
    """A whole report, as `coterie.json` holds it."""

    kind: str
    command: str
    request: dict[str, Json]
    identity: dict[str, Json]
    model: ModelPart
    calibration: TextPart
    pruning: TextPart | None
    """What maps were measured on, the calibration's sequences among it; null where none was."""
    held_out: TextPart
    sparsity: SparsityPart
    cost: CostPart
    versions: dict[str, str]
    machine: dict[str, str | int]
    dtype: str
    streaming: NotRequired[StreamPart]
    verdict: NotRequired[VerdictPart]
    size: NotRequired[SizePart]
    verification: NotRequired[dict[str, Json]]
