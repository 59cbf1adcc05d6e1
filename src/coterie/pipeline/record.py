"""Assemble the record of a run from what was opened, searched and judged."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from coterie.game.coalitions import Coalition
from coterie.game.surrogates.fidelity import Agreement
from coterie.models.sources import REFERENCE
from coterie.pipeline.opening import Opened, name_of, text_part
from coterie.pipeline.provenance import machine, versions
from coterie.pipeline.search import Searched
from coterie.report.record import (
    AgreementPart,
    ClosestPart,
    ContributionsPart,
    CutPart,
    FidelityPart,
    LayerPart,
    ModelPart,
    Record,
    SearchPart,
    StratumPart,
)
from coterie.report.words import BLOCKS, Kind, label
from coterie.study import Study

CONFIDENCE = 0.95
_UNITS = {"ppl-ratio": "share of the full model's 1/perplexity", "log-loss": "nats per token"}


def opening_record(
    kind: str, table: Opened, study: Study | None = None, output: Path | None = None
) -> Record:
    """The parts every verb has: request, model, texts, search, provenance."""
    return Record(
        kind=kind,
        command=table.request.command("prune" if kind == "plan" else kind, output),
        request=table.request.as_json(),
        identity=table.prepared.identity(),
        model=_model(table),
        calibration=text_part(table.calibration.texts),
        search=_search(table, study),
        versions=versions(),
        machine=machine(torch.get_num_threads(), str(table.prepared.device)),
    )


def searched_record(
    kind: str, table: Opened, searched: Searched, output: Path | None = None
) -> Record:
    """The record of a finished study."""
    study = searched.study
    record = opening_record(kind, table, study, output)
    record["strata"] = [
        StratumPart(size=s.size, coalitions=len(s.coalitions), population=s.population)
        for s in study.strata
    ]
    record["contributions"] = _contributions(study, table.request.player_kind())
    record["fidelity"] = _fidelity(study)
    record["budget"] = searched.budget
    return record


def cut_part(coalition: Coalition, study: Study, kind: Kind) -> CutPart:
    """Which players go and which stay, 0-based, and how clear the closest call was."""
    estimate = study.contributions.estimate
    values, errors = estimate.values, np.nan_to_num(estimate.errors)
    kept, removed = np.flatnonzero(coalition), np.flatnonzero(~coalition)
    free = kept[~np.isnan(values[kept])]
    lowest, highest = free[np.argmin(values[free])], removed[np.argmax(values[removed])]
    return CutPart(
        removed=removed.tolist(),
        kept=kept.tolist(),
        removed_labels=[label(kind, player) for player in removed.tolist()],
        kept_labels=[label(kind, player) for player in kept.tolist()],
        closest=ClosestPart(
            kept=int(lowest),
            removed=int(highest),
            difference=float(values[lowest] - values[highest]),
            error=float(np.hypot(errors[lowest], errors[highest])),
        ),
    )


def _model(table: Opened) -> ModelPart:
    source, stack = table.prepared.source, table.stack
    local = source.revision is None
    kind = table.request.player_kind()
    reasons = {label(kind, one): stack.locks.get(one, "as asked") for one in table.locked}
    return ModelPart(
        name=source.name,
        hub_id=None if local or source.name == REFERENCE else source.name,
        revision=source.revision,
        fingerprint=source.fingerprint(),
        architecture=type(table.model).__name__,
        stack=stack.path,
        players=stack.n_players,
        player_kind=kind,
        locked=reasons,
        dtype=", ".join(sorted({entry.dtype for entry in source.entries})),
    )


def _search(table: Opened, study: Study | None) -> SearchPart:
    return SearchPart(
        method=table.request.method,
        surrogate=study.contributions.fidelity.surrogate if study else "none yet",
        utility=study.settings.utility if study else "none yet",
        settings=study.settings.as_json() if study else {},
        seed=table.request.seed,
        device=str(table.prepared.device),
        dtype=name_of(table.prepared.dtype),
        dtype_reason=table.prepared.dtype_reason,
        attention=table.attention,
        mode=table.calibration.engine.mode,
        shape=table.calibration.engine.shape.to_dict(),
    )


def _contributions(study: Study, kind: Kind) -> ContributionsPart:
    found = study.contributions
    estimate = found.estimate
    low, high = estimate.interval(CONFIDENCE)
    texts: Sequence[float] = (
        [math.nan] * len(estimate.values)
        if estimate.error_texts is None
        else estimate.error_texts.tolist()
    )
    layers = [
        LayerPart(
            layer=player // (len(BLOCKS[kind]) or 1),
            player=label(kind, player),
            value=finite(estimate.values[player]),
            error_sampling=finite(estimate.error_sampling[player]),
            error_texts=finite(texts[player]),
            low=finite(low[player]),
            high=finite(high[player]),
        )
        for player in range(len(estimate.values))
    ]
    return ContributionsPart(
        semivalue=estimate.name,
        unit=_UNITS.get(study.settings.utility, study.settings.utility),
        replicates=found.replicates,
        base_coalitions=found.n_base,
        confidence=CONFIDENCE,
        layers=layers,
    )


def _fidelity(study: Study) -> FidelityPart:
    fidelity = study.contributions.fidelity
    return FidelityPart(
        how=f"{fidelity.surrogate}, {fidelity.folds}-fold cross-validation",
        overall=_agreement(fidelity.overall),
        by_size={str(size): _agreement(part) for size, part in fidelity.by_size.items()},
        requested_size=study.settings.keep,
        requested=None if study.requested is None else _agreement(study.requested),
    )


def _agreement(part: Agreement) -> AgreementPart:
    return AgreementPart(
        r2=finite(part.r2), spearman=finite(part.spearman), coalitions=part.n_coalitions
    )


def finite(number: float) -> float | None:
    """The number as JSON can hold it: null where there is none."""
    return float(number) if math.isfinite(number) else None
