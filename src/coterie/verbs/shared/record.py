"""The parts of a record that every verb has: request, model, texts, provenance."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from coterie.game.coalitions import Coalition, Indices
from coterie.game.estimation.absences import Absences
from coterie.game.estimation.semivalues import Estimate
from coterie.game.study import Study
from coterie.game.surrogates.fidelity import Agreement, Fidelity
from coterie.models.files.places import REFERENCE
from coterie.models.files.sources import Source
from coterie.plain import finite
from coterie.players import BLOCKS, Kind, label
from coterie.report.schema.basics import ClosestPart, CutPart, ModelPart
from coterie.report.schema.contributions import (
    AbsencePart,
    AbsencesPart,
    AgreementPart,
    ContributionsPart,
    FidelityPart,
    LayerPart,
)
from coterie.report.schema.record import Record
from coterie.report.schema.search import SearchPart
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.provenance import machine, versions
from coterie.verbs.shared.workspace import Workspace

CONFIDENCE = 0.95


# Internal names of utilities, as a reader knows them.
_UNITS = {"ppl-ratio": "share of the full model's 1/perplexity", "log-loss": "nats per token"}


def opening_record(
    kind: str, workspace: Workspace, study: Study | None = None, output: Path | None = None
) -> Record:
    """The parts every verb has: request, model, texts, search, provenance.

    Args:
        kind: The verb, or ``plan``.
        workspace: The model that is played with.
        study: A finished study, whose settings are told; None where there is none.
        output: Folder of the checkpoint, where one is written.
    """
    # Filled in as the run goes: parts that it does not reach stay absent.
    return Record(
        kind=kind,
        command=workspace.request.command(output),
        request=workspace.request.as_json(),
        identity=workspace.prepared.identity(),
        model=model_part(workspace),
        calibration=text_part(workspace.calibration.texts),
        search=_search(workspace, study),
        versions=versions(),
        machine=machine(torch.get_num_threads(), workspace.prepared.where),
    )


def cut_part(coalition: Coalition, estimate: Estimate | None, kind: Kind) -> CutPart:
    """Which players go and which stay, 0-based, and how clear the closest call was.

    Args:
        coalition: Boolean row ``(n_players,)``: True stays.
        estimate: Contributions whose lowest were cut; None where coalitions were compared whole.
        kind: What a player is.
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
    # Players without an error count as exact here, not as unknown.
    values, errors = estimate.values, np.nan_to_num(estimate.errors)
    # Locked players have no contribution and cannot be the closest call.
    free = kept[~np.isnan(values[kept])]
    lowest, highest = free[np.argmin(values[free])], removed[np.argmax(values[removed])]
    return ClosestPart(
        kept=int(lowest),
        removed=int(highest),
        difference=float(values[lowest] - values[highest]),
        # Taken as independent: the errors of two players are not followed jointly.
        error=float(np.hypot(errors[lowest], errors[highest])),
    )


def model_part(workspace: Workspace) -> ModelPart:
    """The model as the record names it."""
    stack, kind = workspace.stack, workspace.stack.players
    part = named_part(
        workspace.prepared.source, type(workspace.model).__name__, stack.path, stack.n_players, kind
    )
    # A reason from the family where it has one; otherwise the user's own wish.
    locked = {label(kind, one): stack.locks.get(one, "as asked") for one in workspace.locked}
    return replace(part, locked=locked)


def named_part(
    source: Source, architecture: str, stack: str, n_players: int, kind: Kind
) -> ModelPart:
    """A source as a record names it, none of its players locked.

    Args:
        source: The files of the model.
        architecture: Name of its class.
        stack: Where its layers are: ``model.layers``.
        n_players: How many players there are.
        kind: What a player is.
    """
    # A local folder has no revision, and `reference` is on no hub.
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


def _search(workspace: Workspace, study: Study | None) -> SearchPart:
    return SearchPart(
        method=workspace.request.method,
        # A plan has no study yet; the words tell it from a study without a surrogate.
        surrogate=study.contributions.fidelity.surrogate if study else "none yet",
        utility=study.settings.utility if study else "none yet",
        settings=study.settings.as_json() if study else {},
        seed=workspace.request.seed,
        device=workspace.prepared.where,
        dtype=name_of(workspace.prepared.dtype),
        dtype_reason=workspace.prepared.dtype_reason,
        attention=workspace.attention,
        mode=workspace.calibration.engine.mode,
        shape=workspace.calibration.engine.shape.to_dict(),
    )


def absences_part(found: Absences, kind: Kind, unit: str = "log-loss") -> AbsencesPart | None:
    """What each player's absence alone costs; None where no single absence was observed.

    Args:
        found: Measured rises in loss, ``(n_players,)`` each.
        kind: What a player is.
        unit: What losses are in, by the name of the utility.
    """
    if not found.any:
        return None
    layers = [
        AbsencePart(
            layer=_layer_of(player, kind),
            player=label(kind, player),
            loss=finite(found.losses[player]),
            error=finite(found.errors[player]),
            sequences=int(found.sequences[player]),
        )
        for player in range(len(found.losses))
    ]
    return AbsencesPart(unit=_UNITS.get(unit, unit), layers=layers)


def _layer_of(player: int, kind: Kind) -> int:
    # A sublayer is half of a layer: both blocks bear its number.
    return player // (len(BLOCKS[kind]) or 1)


def contributions_part(
    estimate: Estimate,
    utility: str,
    replicates: int,
    n_base: int,
    kind: Kind,
    remark: str | None = None,
) -> ContributionsPart:
    """Every player's contribution, its errors by source and its interval.

    Args:
        estimate: Values and standard errors, ``(n_players,)`` each.
        utility: What values are in, by the name of the utility.
        replicates: Refits of the surrogate behind the standard errors.
        n_base: Coalitions whose marginal contributions were averaged.
        kind: What a player is.
        remark: Why values are unknown or to be read with care.
    """
    low, high = estimate.interval(CONFIDENCE)
    texts: Sequence[float] = (
        # A single document gives no error over texts: NaN, which becomes null.
        [math.nan] * len(estimate.values)
        if estimate.error_texts is None
        else estimate.error_texts.tolist()
    )
    layers = [
        LayerPart(
            layer=_layer_of(player, kind),
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
        remark=remark,
    )


def fidelity_part(
    fidelity: Fidelity, size: int | None, requested: Agreement | None
) -> FidelityPart:
    """A surrogate's held-out fidelity, and that at the size that was asked for.

    Args:
        fidelity: By cross-validation, overall and by size.
        size: Players kept that were asked for, if any.
        requested: Agreement on coalitions of that size; None where too few were observed.
    """
    return FidelityPart(
        # Held-out by folds: no coalition is judged by a fit that saw it.
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
