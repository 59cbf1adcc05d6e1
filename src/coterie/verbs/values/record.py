"""Parts of a record that only `values` has: estimates of the true game, and interactions."""

from dataclasses import replace

import numpy as np

from coterie.game.designs import draw_strata
from coterie.game.estimation.absences import measured_absences
from coterie.game.estimation.interactions import interactions_from
from coterie.game.estimation.semivalues import Estimate
from coterie.game.search.ledger import Ledger
from coterie.game.study import Study
from coterie.plain import finite
from coterie.players import Kind, label
from coterie.report.schema.contributions import InteractionsPart, PairPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import BudgetPart
from coterie.verbs.shared.record import absences_part, contributions_part, opening_record
from coterie.verbs.shared.workspace import Workspace

PAIR_BASES = 24
"""Base coalitions around which the surrogate is asked about every pair: few, as it is asked by
every refit too."""


def estimated_record(workspace: Workspace, estimate: Estimate, ledger: Ledger) -> Record:
    """The record of contributions estimated from the true game, without a surrogate.

    Args:
        workspace: The model that was played with.
        estimate: Values and standard errors, ``(n_players,)`` each.
        ledger: What was asked of the game.
    """
    record = opening_record("values", workspace)
    asked, _ = ledger.seen()
    spent = workspace.calibration.engine.spent
    # The opening names the method of the study, which was not played.
    record.search = replace(
        record.search,
        method=f"{workspace.request.estimator} estimator",
        surrogate="none",
        utility="log-loss",
    )
    # Fidelity tells how well a surrogate predicts the game; here there is none.
    record.fidelity = None
    kind, documents = workspace.request.player_kind(), workspace.calibration.documents
    full = ledger.losses(np.ones((1, ledger.n_players), dtype=bool))[0]
    alone = measured_absences(*ledger.seen(), full, documents)
    record.absences = absences_part(alone, kind)
    record.contributions = contributions_part(estimate, "log-loss", 0, len(asked), kind)
    record.budget = BudgetPart(
        distinct=len(asked),
        known=0,
        layer_tokens_asked=ledger.layer_sequences * workspace.calibration.texts.length,
        layer_tokens_executed=spent.layer_tokens,
        head_tokens=spent.head_tokens,
        not_finite=ledger.not_finite,
        seconds={"observing": spent.seconds},
    )
    return record


def interactions_part(study: Study, kind: Kind) -> InteractionsPart:
    """Interactions according to the study's surrogate, near the sizes of its design."""
    settings = study.settings
    locked = np.array(settings.locked, dtype=np.intp)
    n_players = study.asked.shape[1]
    rng = np.random.default_rng([settings.seed, 7])
    # The seed has a stream of its own, so asking for pairs changes no other result.
    bases = draw_strata(n_players, settings.sizes, PAIR_BASES, locked=locked, rng=rng)
    found = interactions_from(study.contributions.fits, bases, locked)
    pairs = []
    for i, j in zip(*np.triu_indices(n_players, 1), strict=True):
        # A locked player is in every coalition, so nothing can be said of a pair with it.
        if i in locked or j in locked:
            continue
        texts = None if found.error_texts is None else finite(found.error_texts[i, j])
        pairs.append(
            PairPart(
                players=[int(i), int(j)],
                labels=[label(kind, int(i)), label(kind, int(j))],
                value=finite(found.values[i, j]),
                error_sampling=finite(found.error_sampling[i, j]),
                error_texts=texts,
            )
        )
    return InteractionsPart(
        name=f"{found.name} ({study.contributions.fidelity.surrogate})",
        unit="share of the full model's 1/perplexity",
        base_coalitions=sum(len(stratum.coalitions) for stratum in bases),
        pairs=pairs,
    )
