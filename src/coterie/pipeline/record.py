"""Assemble the record of a run from what was opened, searched and judged."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from coterie.game.coalitions import Coalition, Indices
from coterie.game.search import nested
from coterie.game.semivalues import Estimate
from coterie.game.surrogates.fidelity import Agreement, Fidelity
from coterie.game.utilities import clustered_mean
from coterie.models.sources import REFERENCE, Source
from coterie.pipeline.around import Around
from coterie.pipeline.choosing import Found
from coterie.pipeline.defaults import name_of
from coterie.pipeline.opening import Opened, text_part
from coterie.pipeline.provenance import machine, versions
from coterie.pipeline.search import Searched
from coterie.pipeline.stream import stream_part
from coterie.report.record import (
    AgreementPart,
    BudgetPart,
    ChoicePart,
    ClosestPart,
    ContributionsPart,
    CutPart,
    FidelityPart,
    FinalistPart,
    LayerPart,
    ModelPart,
    Record,
    SearchPart,
    SizeChoicePart,
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
        model=model_part(table),
        calibration=text_part(table.calibration.texts),
        search=_search(table, study),
        versions=versions(),
        machine=machine(torch.get_num_threads(), table.prepared.where),
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
    found = study.contributions
    record["contributions"] = contributions_part(
        found.estimate,
        study.settings.utility,
        found.replicates,
        found.n_base,
        table.request.player_kind(),
    )
    record["fidelity"] = fidelity_part(found.fidelity, study.settings.keep, study.requested)
    record["budget"] = searched.budget
    return record


def chosen_record(
    kind: str, table: Opened, found: Found, output: Path | None = None, near: Around | None = None
) -> Record:
    """The record of a finished search: the choice, and contributions near it where known."""
    if found.searched is not None:
        return searched_record(kind, table, found.searched, output)
    record = opening_record(kind, table, None, output)
    record["search"]["method"] = found.method
    record["search"]["utility"] = "log-loss"
    player_kind = table.request.player_kind()
    record["contributions"], record["fidelity"] = None, None
    if near is not None:
        record["search"]["surrogate"] = near.fidelity.surrogate
        record["contributions"] = contributions_part(
            near.estimate, "ppl-ratio", near.replicates, near.n_base, player_kind
        )
        size = min(int(d.winner.coalition.sum()) for d in found.decisions)
        record["fidelity"] = fidelity_part(near.fidelity, size, near.fidelity.by_size.get(size))
    record["choice"] = choice_part(found, player_kind)
    spent = [table.calibration.engine.spent]
    spent += [] if found.second is None else [found.second.engine.spent]
    record["budget"] = BudgetPart(
        distinct=len(found.asked),
        known=found.known,
        layer_tokens_asked=found.layer_tokens_asked,
        layer_tokens_executed=sum(one.layer_tokens for one in spent),
        head_tokens=sum(one.head_tokens for one in spent),
        not_finite=found.not_finite,
        seconds={"choosing": found.seconds_choosing},
    )
    return record


def with_running(record: Record, table: Opened) -> Record:
    """The record, and what went on while it ran: coalitions that broke down, and streaming."""
    if table.breakdowns:
        record["breakdowns"] = table.breakdowns
    if table.streamed:
        record["streaming"] = stream_part(table.streamed, record["budget"]["distinct"])
    return record


def choice_part(found: Found, kind: Kind) -> ChoicePart:
    """Every size's winner and finalists, with paired standings and excess over the full model."""
    grand = np.ones((1, found.union.n_players), dtype=bool)
    full = found.union.losses(grand)[0]
    sizes = []
    finalists = iter(found.finalists)
    for decision in found.decisions:
        winner = decision.winner
        losses = found.union.losses(winner.coalition[None])[0]
        excess, error = clustered_mean(losses - full, found.documents)
        removed = np.flatnonzero(~winner.coalition).tolist()
        stand = []
        for standing in decision.standings:
            gone = np.flatnonzero(~next(finalists).coalition).tolist()
            stand.append(
                FinalistPart(
                    method=standing.method,
                    removed=gone,
                    removed_labels=[label(kind, player) for player in gone],
                    behind=standing.behind,
                    error=standing.error,
                )
            )
        sizes.append(
            SizeChoicePart(
                size=int(winner.coalition.sum()),
                method=winner.method,
                removed=removed,
                kept=np.flatnonzero(winner.coalition).tolist(),
                removed_labels=[label(kind, player) for player in removed],
                loss=-winner.value,
                excess=excess,
                error=error,
                finalists=stand,
            )
        )
    return ChoicePart(
        sequences=found.union.n_sequences,
        documents=len(np.unique(found.documents)),
        second=None if found.second is None else text_part(found.second.texts),
        sizes=sizes,
        nested=nested([decision.winner for decision in found.decisions]),
        out_of_time=found.out_of_time,
        remark=found.remark,
    )


def cut_part(coalition: Coalition, estimate: Estimate | None, kind: Kind) -> CutPart:
    """Which players go and which stay, 0-based, and how clear the closest call was.

    Args:
        estimate: Contributions whose lowest were cut; None where coalitions were compared whole.
    """
    kept, removed = np.flatnonzero(coalition), np.flatnonzero(~coalition)
    return CutPart(
        removed=removed.tolist(),
        kept=kept.tolist(),
        removed_labels=[label(kind, player) for player in removed.tolist()],
        kept_labels=[label(kind, player) for player in kept.tolist()],
        closest=None if estimate is None else _closest(kept, removed, estimate),
    )


def _closest(kept: Indices, removed: Indices, estimate: Estimate) -> ClosestPart:
    values, errors = estimate.values, np.nan_to_num(estimate.errors)
    free = kept[~np.isnan(values[kept])]
    lowest, highest = free[np.argmin(values[free])], removed[np.argmax(values[removed])]
    return ClosestPart(
        kept=int(lowest),
        removed=int(highest),
        difference=float(values[lowest] - values[highest]),
        error=float(np.hypot(errors[lowest], errors[highest])),
    )


def model_part(table: Opened) -> ModelPart:
    """The model as the record names it."""
    stack, kind = table.stack, table.request.player_kind()
    part = named_part(
        table.prepared.source, type(table.model).__name__, stack.path, stack.n_players, kind
    )
    part["locked"] = {label(kind, one): stack.locks.get(one, "as asked") for one in table.locked}
    return part


def named_part(
    source: Source, architecture: str, stack: str, n_players: int, kind: Kind
) -> ModelPart:
    """A source as a record names it, none of its players locked."""
    nowhere_else = source.revision is None or source.name == REFERENCE
    return ModelPart(
        name=source.name,
        hub_id=None if nowhere_else else source.name,
        revision=source.revision,
        fingerprint=source.fingerprint(),
        architecture=architecture,
        stack=stack,
        players=n_players,
        player_kind=kind,
        locked={},
        dtype=", ".join(sorted({entry.dtype for entry in source.entries})),
    )


def _search(table: Opened, study: Study | None) -> SearchPart:
    return SearchPart(
        method=table.request.method,
        surrogate=study.contributions.fidelity.surrogate if study else "none yet",
        utility=study.settings.utility if study else "none yet",
        settings=study.settings.as_json() if study else {},
        seed=table.request.seed,
        device=table.prepared.where,
        dtype=name_of(table.prepared.dtype),
        dtype_reason=table.prepared.dtype_reason,
        attention=table.attention,
        mode=table.calibration.engine.mode,
        shape=table.calibration.engine.shape.to_dict(),
    )


def contributions_part(
    estimate: Estimate, utility: str, replicates: int, n_base: int, kind: Kind
) -> ContributionsPart:
    """Every player's contribution, its errors by source and its interval."""
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
        unit=_UNITS.get(utility, utility),
        replicates=replicates,
        base_coalitions=n_base,
        confidence=CONFIDENCE,
        layers=layers,
    )


def fidelity_part(
    fidelity: Fidelity, size: int | None, requested: Agreement | None
) -> FidelityPart:
    """A surrogate's held-out fidelity, and that at the size that was asked for."""
    return FidelityPart(
        how=f"{fidelity.surrogate}, {fidelity.folds}-fold cross-validation",
        overall=_agreement(fidelity.overall),
        by_size={str(size): _agreement(part) for size, part in fidelity.by_size.items()},
        requested_size=size,
        requested=None if requested is None else _agreement(requested),
    )


def _agreement(part: Agreement) -> AgreementPart:
    return AgreementPart(
        r2=finite(part.r2), spearman=finite(part.spearman), coalitions=part.n_coalitions
    )


def finite(number: float) -> float | None:
    """The number as JSON can hold it: null where there is none."""
    return float(number) if math.isfinite(number) else None
