"""The record of a search: what was chosen, how finalists stand, what it cost."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from coterie.engine.cost import Spent
from coterie.game.estimation.absences import Absences, measured_absences
from coterie.game.search.plain import Answer, nested
from coterie.game.study import Study
from coterie.game.surrogates.fidelity import LEAST_R2, Agreement
from coterie.game.utilities import clustered_mean, read
from coterie.players import Kind, label
from coterie.report.schema.contributions import StratumPart
from coterie.report.schema.part import known
from coterie.report.schema.record import Record
from coterie.report.schema.search import BudgetPart, ChoicePart, FinalistPart, SizeChoicePart
from coterie.verbs.search.nearby import LocalContributions, absences_in
from coterie.verbs.search.paper import PaperStudy
from coterie.verbs.search.result import SearchResult
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.record import (
    absences_part,
    contributions_part,
    fidelity_part,
    opening_record,
)
from coterie.verbs.shared.text_game import stream_part
from coterie.verbs.shared.workspace import Workspace


def searched_record(
    kind: str, workspace: Workspace, searched: PaperStudy, output: Path | None = None
) -> Record:
    """The record of a finished study by the paper's method.

    Args:
        kind: The verb: ``prune`` or ``values``.
        workspace: The model that was played with.
        searched: The study and what it cost.
        output: Folder of the checkpoint, where one is written.
    """
    study = searched.study
    record = opening_record(kind, workspace, study, output)
    # Kept beside the contributions: a reader sees how much each size was observed.
    record.strata = [
        StratumPart(size=s.size, coalitions=len(s.coalitions), population=s.population)
        for s in study.strata
    ]
    found, kind = study.contributions, workspace.stack.players
    record.absences = absences_part(_absences_in(study, workspace), kind)
    record.contributions = contributions_part(
        found.estimate,
        study.settings.utility,
        found.replicates,
        found.n_base,
        kind,
        remark=_care(study.requested),
    )
    record.fidelity = fidelity_part(found.fidelity, study.settings.keep, study.requested)
    record.budget = searched.budget
    return record


def _absences_in(study: Study, workspace: Workspace) -> Absences:
    """Single absences that the design of a study held."""
    vocabulary = workspace.engine.vocabulary
    table, full = (read(seen, "nll", vocabulary)[0] for seen in (study.table, study.full))
    coalitions = np.concatenate([stratum.coalitions for stratum in study.strata])
    return measured_absences(coalitions, table, full[0], study.documents)


def _care(requested: Agreement | None) -> str | None:
    """How far a ranking is to be believed at the size cut to, where that is not far."""
    if requested is None or requested.r2 >= LEAST_R2:
        return None
    # The ranking decides the cut, so its values are told whatever they are worth.
    return (
        f"The surrogate explains less than {LEAST_R2:.0%} of what differs between coalitions of the"
        " size that is kept: the order of these values is that of the cut, and little is sure of it"
    )


def chosen_record(
    kind: str,
    workspace: Workspace,
    found: SearchResult,
    output: Path | None = None,
    near: LocalContributions | None = None,
) -> Record:
    """The record of a finished search: the choice, and contributions near it where known.

    Args:
        kind: The verb: ``prune`` or ``values``.
        workspace: The model that was played with.
        found: What the search chose, with its finalists.
        output: Folder of the checkpoint, where one is written.
        near: Contributions estimated from the coalitions that the search asked for.
    """
    # The paper's method has a record of its own kind, whichever way it was played.
    if found.searched is not None:
        return searched_record(kind, workspace, found.searched, output)
    record = opening_record(kind, workspace, None, output)
    record.search = replace(record.search, method=found.method, utility="log-loss")
    player_kind = workspace.stack.players
    record.contributions, record.fidelity = None, None
    if near is not None:
        record.search = replace(record.search, surrogate=near.fidelity.surrogate)
        record.contributions = contributions_part(
            near.estimate,
            "ppl-ratio",
            near.replicates,
            near.n_base,
            player_kind,
            remark=near.remark,
        )
        size = min(int(d.winner.coalition.sum()) for d in found.decisions)
        record.fidelity = fidelity_part(near.fidelity, size, near.fidelity.by_size.get(size))
    record.absences = absences_part(absences_in(found, found.played.documents), player_kind)
    record.choice = choice_part(found, player_kind)
    blocks, spent = found.blocks, _spent(workspace, found)
    record.budget = BudgetPart(
        distinct=len(found.asked) + (0 if blocks is None else blocks.asked),
        known=found.known + (0 if blocks is None else blocks.known),
        layer_tokens_asked=found.layer_tokens_asked
        + (0 if blocks is None else blocks.layer_tokens_asked),
        layer_tokens_executed=spent.layer_tokens,
        head_tokens=spent.head_tokens,
        not_finite=found.not_finite,
        seconds={"choosing": found.seconds_choosing},
    )
    return record


def _spent(workspace: Workspace, found: SearchResult) -> Spent:
    """What all engines of a search have run."""
    if found.blocks is not None:
        return found.blocks.before + found.blocks.spent
    # The decision ran on the second texts' engine as well.
    second = Spent() if found.second is None else found.second.engine.spent
    return workspace.calibration.engine.spent + second


def with_running(record: Record, workspace: Workspace) -> Record:
    """The record, and what went on while it ran: coalitions that broke down, streaming, workers."""
    if workspace.breakdowns:
        record.breakdowns = workspace.breakdowns
    record.streaming = stream_part(workspace.games, known(record.budget).distinct)
    record.cluster = workspace.opened.cluster_part()
    return record


def _excess(found: SearchResult, winner: Answer) -> tuple[float, float | None]:
    """Loss of a winner above the full model on the very same texts, and its standard error."""
    grand = np.ones((1, found.union.n_players), dtype=bool)
    full, losses = found.union.losses(np.concatenate([grand, winner.coalition[None]]))
    if not np.isclose(losses.mean(), -winner.value):
        # It was decided repaired or healed, and only its mean is known.
        return -winner.value - float(full.mean()), None
    return clustered_mean(losses - full, found.documents)


def choice_part(found: SearchResult, kind: Kind) -> ChoicePart:
    """Every size's winner and finalists, with paired standings and excess over the full model."""
    sizes = []
    finalists = iter(found.finalists)
    for decision in found.decisions:
        winner = decision.winner
        excess, error = _excess(found, winner)
        removed = np.flatnonzero(~winner.coalition).tolist()
        stand = []
        # Standings follow the order of the finalists, size by size.
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
        # Documents, not sequences: errors are taken over them.
        documents=len(np.unique(found.documents)),
        second=None if found.second is None else text_part(found.second.texts),
        sizes=sizes,
        nested=nested([decision.winner for decision in found.decisions]),
        out_of_time=found.out_of_time,
        remark=found.remark,
        comparisons=_comparisons(found),
        decided_apart=True if found.decided_apart else None,
    )


def _comparisons(found: SearchResult) -> int | None:
    """Coalitions of the sizes chosen that were compared with each other, the finalists included."""
    keeps = [int(one.winner.coalition.sum()) for one in found.decisions]
    return int(np.isin(found.asked.sum(axis=1), keeps).sum()) if len(found.asked) else None
