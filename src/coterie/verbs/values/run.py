"""`values`: what every player contributes, without a cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from coterie.game.estimation.estimator import EstimationTask
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.game.search.baselines import plain_cost
from coterie.game.search.guided import front_sizes
from coterie.report.schema.record import Record
from coterie.verbs.search.choose import choose
from coterie.verbs.search.nearby import contributions_near
from coterie.verbs.search.paper import search
from coterie.verbs.search.record import chosen_record, searched_record, with_running
from coterie.verbs.search.result import Search
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.prepared import Prepared, prepare
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.result import Result
from coterie.verbs.shared.settings import size_asked
from coterie.verbs.shared.workspace import Workspace, open_workspace
from coterie.verbs.values.by_utility import utility_values
from coterie.verbs.values.estimators import estimate_true
from coterie.verbs.values.record import estimated_record, interactions_part
from coterie.verbs.values.repeats import stability
from coterie.verbs.values.request import ValuesRequest

FRONT_COALITIONS = 409
"""Distinct coalitions a whole front may ask for, or twice what its plain answers take if more."""


@public
def values(
    request: ValuesRequest, *, store: Path | str | None = None, progress: Progress | None = None
) -> Result:
    """Estimate what each player contributes; resumes whatever the store holds already.

    >>> from coterie import ValuesRequest, values
    >>> texts = {"sequences": 2, "length": 16}
    >>> asked = ValuesRequest("reference", estimator="permutation", budget=64, **texts)
    >>> len(values(asked, store=folder / "store.sqlite").contributions)
    16

    Args:
        request: Which model, on which texts, and what is estimated of its players.
        store: SQLite file of observations; None is the user's cache.
        progress: Shows how far the run has come.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check()
    progress = progress or NoProgress()
    if request.utility is not None:
        report = utility_values(request, store=store, progress=progress)
        return Result(report.record, report)
    prepared = prepare(request, progress=progress)
    n_players = prepared.n_players
    estimator = ESTIMATORS[request.estimator]
    # A budget too small for the estimator is refused before weights are loaded.
    estimator.check(EstimationTask(n_players, tuple(prepared.locked), request.budget))
    with open_workspace(prepared, store=store, progress=progress) as workspace:
        keep = size_asked(request, n_players, workspace.locked)
        if request.front:
            return Result(with_running(_front(workspace, progress), workspace))
        if not estimator.by_study:
            record = estimated_record(workspace, *estimate_true(workspace, progress))
        else:
            searched = search(workspace, keep, progress)
            record = searched_record("values", workspace, searched)
            if request.interactions:
                progress.say("asking the surrogate about every pair")
                record.interactions = interactions_part(searched.study, request.player_kind())
        with_running(record, workspace)  # of this run; repeats are runs of their own
        if request.repeats > 1 and keep is not None:
            record.stability = stability(workspace, keep, request.repeats, progress=progress)
        return Result(record)


def _front(workspace: Workspace, progress: Progress) -> Record:
    """The best coalition of every size, from one player removed to half of them."""
    request = workspace.request
    sizes = front_sizes(workspace.stack.n_players, locked=np.array(workspace.locked, dtype=np.intp))
    search = Search.of(request, list(sizes))
    budget = front_budget(workspace.prepared)
    found = choose(workspace, replace(search, budget=budget), progress)
    return chosen_record(
        "values", workspace, found, near=contributions_near(workspace, found, progress)
    )


def front_budget(prepared: Prepared) -> int:
    """Distinct coalitions that a whole front may ask for: what is asked, or enough for all sizes.

    Args:
        prepared: The model and what is asked of it.
    """
    if prepared.request.budget is not None:
        return prepared.request.budget
    n_players, locked = prepared.n_players, prepared.locked
    sizes = front_sizes(n_players, locked=np.array(locked, dtype=np.intp))
    return max(FRONT_COALITIONS, 2 * plain_cost(n_players, sizes, n_locked=len(locked)))
