"""Play the game on the calibration texts: what `values` and `prune` share."""

from dataclasses import dataclass

import numpy as np

from coterie.engine.cost import plan
from coterie.game.coalitions import to_text
from coterie.game.study import Study, run_study
from coterie.report.schema.search import BudgetPart
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.settings import generator, settings_for
from coterie.verbs.shared.workspace import Workspace


@dataclass(frozen=True, eq=False)
class PaperStudy:
    """A finished study of a model, and what it cost."""

    study: Study
    budget: BudgetPart


def search(
    workspace: Workspace, keep: int | None, progress: Progress, *, request: Request | None = None
) -> PaperStudy:
    """Observe and estimate, as the paper does (arXiv:2602.07804).

    Args:
        keep: Size the cut will have; None where nothing is to be cut.
        request: Decides budget, time and seed; by default what was asked.
    """
    request = workspace.request if request is None else request
    n_players = workspace.stack.n_players
    settings = settings_for(request, n_players, workspace.locked, keep)
    played = workspace.calibration
    known = played.known_coalitions()
    study = run_study(
        played.game,
        settings,
        played.texts.documents,
        played.engine.vocabulary,
        rng=generator(request),
        step=progress.step,
    )
    asked = np.unique(study.asked, axis=0)
    work = plan(asked, played.texts.n_sequences, played.texts.length)
    spent = played.engine.spent
    budget = BudgetPart(
        distinct=len(asked),
        known=sum(to_text(row) in known for row in asked),
        layer_tokens_asked=work.layer_tokens_asked,
        layer_tokens_executed=spent.layer_tokens,
        head_tokens=spent.head_tokens,
        not_finite=study.not_finite,
        seconds={"observing": study.seconds_observing, "estimating": study.seconds_estimating},
    )
    return PaperStudy(study, budget)
