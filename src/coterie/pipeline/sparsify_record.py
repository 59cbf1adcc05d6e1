"""Assemble the record of a sparse checkpoint: opening, sparsities, verdict."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from coterie.evaluation.calibration import TextSet
from coterie.game.coalitions import Indices, Observations, Vector
from coterie.game.utilities import clustered_mean, read
from coterie.models.sources import REFERENCE
from coterie.models.stack import find_stack
from coterie.pipeline.defaults import name_of
from coterie.pipeline.opening import Opened, text_part
from coterie.pipeline.provenance import machine, versions
from coterie.pipeline.record import finite
from coterie.pipeline.sparsify_allocation import Shared
from coterie.pipeline.sparsify_request import SparsifyRequest
from coterie.plain import Json
from coterie.report.record import DifferencePart, ModelPart, PerplexityPart, VerdictPart
from coterie.report.sparsity import CostPart, SparsityPart, SparsityRecord, UnitPart
from coterie.report.words import label
from coterie.sparsity.interface import PrunedLayer
from coterie.sparsity.units import Units, find_units
from coterie.sparsity.write import Sparsity


def opening_part(
    table: Opened,
    request: SparsifyRequest,
    shared: Shared,
    identity: dict[str, Json],
    output: Path,
) -> SparsityRecord:
    """Everything that is known before a weight is pruned; the sparsities are those asked for."""
    measured = shared.measured
    return SparsityRecord(
        kind="sparsify",
        command=request.command(output),
        request=request.as_json(),
        identity=identity,
        model=_model(table),
        calibration=text_part(table.calibration.texts),
        held_out=text_part(table.prepared.held_out),
        sparsity=sparsity_part(table, request, shared, (), None),
        cost=CostPart(
            coalitions=measured.distinct if measured else 0,
            layer_tokens_asked=measured.layer_tokens if measured else 0,
            not_finite=measured.not_finite if measured else 0,
            seconds={"playing": measured.seconds} if measured else {},
            choice=shared.told,
        ),
        versions=versions(),
        machine=machine(torch.get_num_threads(), str(table.prepared.device)),
        dtype=name_of(table.prepared.dtype),
    )


def sparsity_part(
    table: Opened,
    request: SparsifyRequest,
    shared: Shared,
    layers: Sequence[PrunedLayer],
    counted: Sparsity | None,
) -> SparsityPart:
    """The sparsities of all units, asked and realised; cut layers count as zeros throughout."""
    units = find_units(table.model, find_stack(table.model), table.stack.players, request.group())
    weights, sparsity = units.weights, shared.sparsity
    gone = np.repeat(~shared.kept, units.per_layer)
    zeros = _zeros(units, shared, layers) if layers else sparsity * weights
    dampings = [m.damping for layer in layers for m in layer.maps if m.damping is not None]
    values = shared.measured.values if shared.measured else np.full(len(weights), np.nan)
    kind = table.request.player_kind()
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
        units=[
            UnitPart(
                unit=label(kind, unit),
                layer=unit // units.per_layer,
                weights=int(weights[unit]),
                contribution=finite(values[unit]),
                asked=float(sparsity[unit]),
                realised=float(zeros[unit] / weights[unit]),
                cut=bool(gone[unit]),
            )
            for unit in range(len(weights))
        ],
    )


def verdict_part(
    before: Observations, after: Observations, texts: TextSet, vocabulary: int
) -> VerdictPart:
    """Full model against sparse one on the held-out texts, paired sequence by sequence."""
    full, _ = read(before, "nll", vocabulary)
    sparse, not_finite = read(after, "nll", vocabulary)
    change, error = clustered_mean(sparse[0] - full[0], texts.documents)
    first, second = (_perplexity(row, texts.documents) for row in (full[0], sparse[0]))
    return VerdictPart(
        before=first,
        after=second,
        difference=DifferencePart(
            nll=change, error=error, documents=len(np.unique(texts.documents))
        ),
        ratio=second["perplexity"] / first["perplexity"],
        kl=finite(after.kl[0].mean()),
        top1=finite(after.top1[0].mean()),
        not_finite=not_finite,
    )


def _zeros(units: Units, shared: Shared, layers: Sequence[PrunedLayer]) -> Vector:
    """Zeros of each unit; all of its weights where its layer is cut."""
    zeros = units.weights.copy()
    for place, layer in zip(np.flatnonzero(shared.kept), layers, strict=True):
        for at, name in enumerate(units.names[place] or ("",)):
            zeros[place * units.per_layer + at] = sum(
                one.zeros
                for one in layer.maps
                if not name or one.name == name or one.name.startswith((f"{name}.", f"{name}["))
            )
    return zeros


def _perplexity(losses: Vector, documents: Indices) -> PerplexityPart:
    nll, error = clustered_mean(losses, documents)
    perplexity = float(np.exp(nll))
    return PerplexityPart(
        nll=nll, perplexity=perplexity, error=None if error is None else perplexity * error
    )


def _model(table: Opened) -> ModelPart:
    source, stack = table.prepared.source, table.stack
    kind = table.request.player_kind()
    return ModelPart(
        name=source.name,
        hub_id=None if source.revision is None or source.name == REFERENCE else source.name,
        revision=source.revision,
        fingerprint=source.fingerprint(),
        architecture=type(table.model).__name__,
        stack=stack.path,
        players=stack.n_players,
        player_kind=kind,
        locked={label(kind, one): stack.locks.get(one, "as asked") for one in table.locked},
        dtype=", ".join(sorted({entry.dtype for entry in source.entries})),
    )
