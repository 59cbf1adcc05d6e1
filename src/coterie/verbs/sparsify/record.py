"""Assemble the record of a sparse checkpoint: opening, sparsities, verdict."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from coterie.game.coalitions import Vector
from coterie.plain import Json, finite
from coterie.players import label
from coterie.report.schema.sparsify import SparsityCostPart, SparsityPart, SparsityRecord, UnitPart
from coterie.sparsity.levels import PrunedLayer
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import Units
from coterie.sparsity.write import Sparsity
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.provenance import machine, versions
from coterie.verbs.shared.record import model_part
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.rules._interface import Allocation


def opening_part(
    workspace: Workspace,
    request: SparsifyRequest,
    shared: Allocation,
    units: Units,
    identity: dict[str, Json],
    output: Path,
) -> SparsityRecord:
    """Everything that is known before a weight is pruned; the sparsities are those asked for.

    Args:
        workspace: The opened model and its games.
        request: What is asked for.
        shared: The sparsities of all units.
        units: What has a sparsity of its own.
        identity: What decides the outcome.
        output: Folder of the checkpoint.
    """
    measured = shared.measured
    return SparsityRecord(
        kind="sparsify",
        command=request.command(output),
        request=request.as_json(),
        identity=identity,
        model=model_part(workspace),
        calibration=text_part(workspace.calibration.texts),
        pruning=text_part(workspace.prepared.measured) if request.measures() else None,
        held_out=text_part(workspace.prepared.held_out),
        sparsity=sparsity_part(request, shared, units, (), None),
        cost=SparsityCostPart(
            coalitions=measured.distinct if measured else 0,
            layer_tokens_asked=measured.layer_tokens if measured else 0,
            not_finite=measured.not_finite if measured else 0,
            seconds={"playing": measured.seconds} if measured else {},
            choice=shared.findings,
        ),
        versions=versions(),
        machine=machine(torch.get_num_threads(), workspace.prepared.where),
        dtype=name_of(workspace.prepared.dtype),
    )


def sparsity_part(
    request: SparsifyRequest,
    shared: Allocation,
    units: Units,
    layers: Sequence[PrunedLayer],
    counted: Sparsity | None,
) -> SparsityPart:
    """The sparsities of all units, asked and realised; cut layers count as zeros throughout.

    Args:
        request: What is asked for.
        shared: The sparsities of all units.
        units: What has a sparsity of its own.
        layers: What became of each layer; empty beforehand.
        counted: Zeros counted on disk; None beforehand.
    """
    weights, sparsity = units.weights, shared.sparsity
    # Before pruning, the zeros asked for stand for those that there will be.
    zeros = _zeros(units, shared, layers) if layers else sparsity * weights
    dampings = [m.damping for layer in layers for m in layer.maps if m.damping is not None]
    return SparsityPart(
        target=request.target(),
        pattern=request.pattern,
        allocation=request.allocation,
        pruner=request.pruner,
        contributions=shared.measured.how if shared.measured else None,
        asked=float(sparsity @ weights / weights.sum()),
        realised=float(zeros.sum() / weights.sum()),
        zeros=counted.zeros if counted else 0,
        weights=counted.weights if counted else int(weights.sum()),
        damping=max(dampings, default=None),
        judged_on=_judged_on(request, layers),
        unseen=_unseen(request, shared, layers),
        units=_unit_parts(request, shared, units, zeros),
    )


def _unit_parts(
    request: SparsifyRequest, shared: Allocation, units: Units, zeros: Vector
) -> list[UnitPart]:
    """One line of the record for each unit."""
    # The players of the game may be blocks, but cuts are always of whole layers.
    gone = np.repeat(~shared.kept, units.per_layer)
    values = shared.measured.values if shared.measured else np.full(len(gone), np.nan)
    return [
        UnitPart(
            unit=label(request.player_kind(), unit),
            layer=unit // units.per_layer,
            weights=int(weights),
            contribution=finite(values[unit]),
            asked=float(shared.sparsity[unit]),
            realised=float(zeros[unit] / weights),
            cut=bool(gone[unit]),
        )
        for unit, weights in enumerate(units.weights)
    ]


def _judged_on(request: SparsifyRequest, layers: Sequence[PrunedLayer]) -> list[int] | None:
    """Fewest and most calibration inputs of a pruned map; None where the pruner needs none."""
    # Dense maps need no text, however few inputs reached them.
    rows = [one.rows for layer in layers for one in layer.maps if one.asked > 0]
    if find_pruner(request.pruner).needs == "nothing" or not rows:
        return None
    return [min(rows), max(rows)]


def _unseen(
    request: SparsifyRequest, shared: Allocation, layers: Sequence[PrunedLayer]
) -> list[str]:
    """Pruned maps that no calibration input reached, by the layer's number in the source."""
    # A pruner that looks at weights alone has no use for inputs.
    if find_pruner(request.pruner).needs == "nothing":
        return []
    return [
        f"{place}.{one.name}"
        for place, layer in zip(np.flatnonzero(shared.kept), layers, strict=False)
        for one in layer.maps
        if one.asked > 0 and one.rows == 0
    ]


def _zeros(units: Units, shared: Allocation, layers: Sequence[PrunedLayer]) -> Vector:
    """Zeros of each unit; all of its weights where its layer is cut."""
    zeros = units.weights.copy()
    # A checkpoint counts its layers anew after a cut: back to their places in the source.
    for place, layer in zip(np.flatnonzero(shared.kept), layers, strict=True):
        for at, name in enumerate(units.names[place] or ("",)):
            zeros[place * units.per_layer + at] = sum(
                one.zeros
                for one in layer.maps
                if not name or one.name == name or one.name.startswith((f"{name}.", f"{name}["))
            )
    return zeros
