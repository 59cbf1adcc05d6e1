"""`values --dry-run`: what estimating would take, stated before anything is observed."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from coterie.game.estimation.estimator import EstimationTask
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.game.search.guided import front_sizes
from coterie.report.schema.plan import PlanPart
from coterie.verbs.search.by_utility import planned
from coterie.verbs.search.forecast import Forecast, Opened, search_work, with_times
from coterie.verbs.search.task_utilities import tasks_of
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.record import opening_record
from coterie.verbs.shared.result import Result
from coterie.verbs.shared.settings import size_asked
from coterie.verbs.shared.workspace import Workspace, open_workspace
from coterie.verbs.values.request import ValuesRequest
from coterie.verbs.values.run import front_budget


@public
def values_plan(
    request: ValuesRequest, *, store: Path | str | None = None, progress: Progress | None = None
) -> Result:
    """What `values` would observe and how long it takes; nothing is kept.

    Args:
        request: Which model, on which texts, and what is estimated of its players.
        store: SQLite file of observations, which is only read; None is the user's cache.
        progress: Told what is being done.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check()
    progress, began = progress or NoProgress(), time.monotonic()
    prepared = prepare(request, progress=progress)
    task = EstimationTask(prepared.n_players, tuple(prepared.locked), request.budget)
    ESTIMATORS[request.estimator].check(task)
    if request.front:  # the same bound as the run's own
        prepared = replace(prepared, request=replace(request, budget=front_budget(prepared)))
    ready = time.monotonic()
    with open_workspace(prepared, store=store, progress=progress, read_only=True) as workspace:
        setting_up = workspace.engine.spent.setup_seconds
        loading = time.monotonic() - ready - setting_up
        opened = Opened(time.monotonic() - began, loading, setting_up)
        part, keep = _part(workspace, request)
        forecast = Forecast(workspace, workspace.engine.seconds(), opened, keep)
        searching = forecast.searching(part)
        more = max(1, request.repeats)
        searching = replace(
            searching, expected=more * searching.expected, most=more * searching.most
        )
        deciding = forecast.deciding() if request.front else []
        record = opening_record("plan", workspace)
        record.command = request.command()
        record.plan = with_times(part, [forecast.opening(), searching, *deciding])
        return Result(record)


def _part(workspace: Workspace, request: ValuesRequest) -> tuple[PlanPart, int]:
    """The work, and the size of the smallest coalition that is sought."""
    n_players, each = workspace.stack.n_players, workspace.engine.seconds()
    keep = size_asked(request, n_players, workspace.locked)
    keeps: tuple[int, ...] = (n_players // 2 if keep is None else keep,)
    if request.front:
        locked = np.array(workspace.locked, dtype=np.intp)
        keeps = tuple(front_sizes(n_players, locked=locked))
    part = search_work(workspace, keeps, each)
    part.disk_bytes = 0
    if request.utility is not None:
        part = planned(workspace, tasks_of(request), part, keeps[-1])
    elif not ESTIMATORS[request.estimator].by_study and not request.front:
        task = EstimationTask(n_players, tuple(workspace.locked), request.budget)
        part.distinct, part.at_most = task.asked, True
        part.seconds = task.asked * (n_players / 2 * each.layer + each.rest)
    return part, keeps[-1]
