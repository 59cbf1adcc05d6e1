"""Play the game on the calibration texts: what `values` and `prune` share."""

from dataclasses import dataclass, replace

import numpy as np

from coterie.engine.training import trainer_on
from coterie.game.coalitions import to_text
from coterie.game.study import Study, study_for
from coterie.report.schema.search import BudgetPart
from coterie.verbs.search.game import SearchedGame
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.settings import task_of
from coterie.verbs.shared.workspace import Workspace


@dataclass(frozen=True, eq=False)
class PaperStudy:
    """A finished study of a model, and what it cost."""

    study: Study
    budget: BudgetPart


def search(workspace: Workspace, keep: int | None, progress: Progress) -> PaperStudy:
    """Observe and estimate, as the paper does (arXiv:2602.07804).

    Args:
        workspace: The opened model and its texts.
        keep: Size the cut will have; None where nothing is to be cut.
        progress: Shows what goes on.
    """
    played = workspace.calibration
    known = played.known_coalitions()
    keeps = () if keep is None else (keep,)
    # Known coalitions are counted before the study runs: afterwards all are known.
    asked = task_of(workspace.request, workspace.stack.n_players, workspace.locked, keeps)
    task = replace(
        asked,
        documents=played.texts.documents,
        vocabulary=played.engine.vocabulary,
        trainer=trainer_on(workspace.prepared.device),
        step=progress.step,
    )
    return paper_study(workspace, played, study_for(played.game, task), known)


def paper_study(
    workspace: Workspace, played: SearchedGame, study: Study, known: set[str]
) -> PaperStudy:
    """A finished study of a game, and what it cost.

    Args:
        workspace: The model it was made on.
        played: The calibration texts, or the mix of utilities.
        study: What was drawn, seen and concluded.
        known: Coalitions the store knew on every text before, in their text form.
    """
    # A design may draw a coalition twice; its cost is counted once.
    asked = np.unique(study.asked, axis=0)
    # Executed is what the engine ran here, after the store's answers.
    spent = workspace.calibration.engine.spent
    budget = BudgetPart(
        distinct=len(asked),
        known=sum(to_text(row) in known for row in asked),
        layer_tokens_asked=played.layer_tokens_asked(asked),
        layer_tokens_executed=spent.layer_tokens,
        head_tokens=spent.head_tokens,
        not_finite=study.not_finite + played.not_finite,
        seconds={"observing": study.seconds_observing, "estimating": study.seconds_estimating},
    )
    return PaperStudy(study, budget)
