"""Contributions from the true game, each estimator under the name of the semivalue it estimates."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from coterie.errors import CutError
from coterie.game.coalitions import Coalitions, Indices, ValueFunction, Vector
from coterie.game.designs import enumerate_all
from coterie.game.estimation.regression import kernel_shapley, sliding_window_shapley
from coterie.game.estimation.sampling import permutation_shapley, sampled
from coterie.game.estimation.semivalues import Estimate, banzhaf, exact, placed, shapley
from coterie.game.search import Ledger
from coterie.game.utilities import floor_nll
from coterie.verbs.search.timed import TimedGame
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

Estimator = Callable[[ValueFunction], Estimate]

BUDGET = 1_024
"""About how many coalitions are asked unless told otherwise; `exact` and `window` ask their all."""

MOST_EXACT = 20
"""Players up to whom all coalitions can be enumerated."""

WINDOW = 5
"""Players in a sliding window."""

REPLICATES = 24
"""Resamples of the documents behind the error by texts."""


def check_estimator(name: str, n_players: int, n_locked: int, budget: int | None) -> None:
    """Refuse an estimator that this game or this budget is not made for.

    Raises:
        CutError: too many players for enumeration, or too few coalitions for a standard error.
    """
    free = n_players - n_locked
    if name == "exact" and free > MOST_EXACT:
        raise CutError(
            f"--estimator exact enumerates all coalitions, of at most {MOST_EXACT} players: "
            f"{free} are free here; lock some, or give --estimator kernel"
        )
    least = {"permutation": 2 * (free + 1), "kernel": 4 * free, "banzhaf": 4 * free * free}
    if budget is not None and budget < least.get(name, 0):
        raise CutError(
            f"--budget {budget} gives --estimator {name} no standard error on {free} players: "
            f"allow at least {least[name]}"
        )


def estimate_true(workspace: Workspace, progress: Progress) -> tuple[Estimate, Ledger]:
    """The contributions by the asked estimator, in nats per token, with both errors.

    The error by texts re-reads the same coalitions under resampled documents.
    """
    request, played = workspace.request, workspace.calibration
    locked = np.array(workspace.locked, dtype=np.intp)
    n_players = workspace.stack.n_players
    asked = request.budget or BUDGET

    def tell(done: int) -> None:
        progress.step("observing, layer-sequences", done, done)

    game = TimedGame(played.game, tell=tell)
    ledger = Ledger(game, floor=floor_nll(played.engine.vocabulary))
    estimator = _estimator(request.estimator, n_players, locked, asked, request.seed)
    full = ledger.losses(np.ones((1, n_players), dtype=bool))[0]

    def value(weights: Vector) -> ValueFunction:
        def of(coalitions: Coalitions) -> Vector:
            return (full - ledger.losses(coalitions)) @ weights

        return of

    alike = np.full(played.texts.n_sequences, 1 / played.texts.n_sequences)
    found = estimator(value(alike))
    names, which = np.unique(played.texts.documents, return_inverse=True)
    if len(names) < 2:
        return found, ledger
    rng = np.random.default_rng([request.seed, 6])
    again = []
    for _ in range(REPLICATES):
        drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weights = drawn[which.reshape(-1)].astype(float)
        again.append(estimator(value(weights / weights.sum())).values)
    spread = np.std(again, axis=0, ddof=1) * np.sqrt(len(names) / (len(names) - 1))
    return replace(found, error_texts=spread, freedom_texts=float(len(names) - 1)), ledger


def _estimator(name: str, n_players: int, locked: Indices, budget: int, seed: int) -> Estimator:
    """The estimator, drawing the same coalitions each time it is asked."""
    n_free = n_players - len(locked)

    def rng() -> np.random.Generator:
        return np.random.default_rng([seed, 2])

    if name == "kernel":
        draws = max(2 * n_free, budget // 2)
        return lambda v: kernel_shapley(v, n_players, draws=draws, locked=locked, rng=rng())
    if name == "permutation":
        draws = max(2, budget // (n_free + 1))
        return lambda v: permutation_shapley(v, n_players, draws=draws, locked=locked, rng=rng())
    if name == "banzhaf":
        draws = max(2, budget // (2 * n_free * n_free))
        semivalue = banzhaf(n_free)
        return lambda v: sampled(v, n_players, semivalue, draws=draws, locked=locked, rng=rng())
    if name == "window":
        window = min(WINDOW, n_free)
        return lambda v: sliding_window_shapley(v, n_players, window=window, locked=locked)
    return lambda v: _exact(v, n_players, locked)


def _exact(value: ValueFunction, n_players: int, locked: Indices) -> Estimate:
    """Shapley values of the game of the free players, the locked ones always in."""
    free = np.setdiff1d(np.arange(n_players), locked)
    inside = enumerate_all(len(free))
    coalitions = np.ones((len(inside), n_players), dtype=bool)
    coalitions[:, free] = inside
    return placed(exact(value(coalitions), shapley(len(free))), n_players, free)
