"""Contributions from the true game, by any estimator, with the error by texts beside."""

from dataclasses import replace

import numpy as np

from coterie.game.coalitions import Coalitions, ValueFunction, Vector
from coterie.game.estimation.estimator import EstimationTask
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.game.estimation.semivalues import Estimate
from coterie.game.search.ledger import Ledger
from coterie.game.utilities import floor_nll
from coterie.verbs.search.timed import TimedGame
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

REPLICATES = 24
"""Resamples of the documents behind the error by texts."""


def estimate_true(workspace: Workspace, progress: Progress) -> tuple[Estimate, Ledger]:
    """The contributions by the asked estimator, in nats per token, with both errors.

    The error by texts re-reads the same coalitions under resampled documents.
    """
    request, played = workspace.request, workspace.calibration
    n_players = workspace.stack.n_players
    estimator = ESTIMATORS[request.estimator]
    task = EstimationTask(n_players, tuple(workspace.locked), request.budget, request.seed)

    most = task.asked * n_players * played.texts.n_sequences

    def tell(done: int) -> None:
        progress.step("observing, %", min(100, round(100 * done / most)), 100)

    game = TimedGame(played.game, tell=tell)
    ledger = Ledger(game, floor=floor_nll(played.engine.vocabulary))
    full = ledger.losses(np.ones((1, n_players), dtype=bool))[0]

    def value(weights: Vector) -> ValueFunction:
        """Nats gained over the full model, the sequences weighted."""

        def of(coalitions: Coalitions) -> Vector:
            return (full - ledger.losses(coalitions)) @ weights

        return of

    # The mean over sequences; resampled documents only change these weights.
    alike = np.full(played.texts.n_sequences, 1 / played.texts.n_sequences)
    found = estimator.estimate(value(alike), task)
    names, which = np.unique(played.texts.documents, return_inverse=True)
    if len(names) < 2:
        return found, ledger
    rng = np.random.default_rng([request.seed, 6])
    again = []
    for _ in range(REPLICATES):
        # The same coalitions are drawn each time, so the ledger asks nothing of the model.
        drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weights = drawn[which.reshape(-1)].astype(float)
        again.append(estimator.estimate(value(weights / weights.sum()), task).values)
    # Resampling n documents understates the variance by (n − 1) / n: corrected here.
    spread = np.std(again, axis=0, ddof=1) * np.sqrt(len(names) / (len(names) - 1))
    return replace(found, error_texts=spread, freedom_texts=float(len(names) - 1)), ledger
