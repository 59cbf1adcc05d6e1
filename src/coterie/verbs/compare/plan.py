"""`compare --dry-run`: what every method would take, stated before it plays."""

import time
from pathlib import Path

import numpy as np

from coterie.engine.interface import Seconds
from coterie.report.schema.plan import PlannedTimePart, PlanPart
from coterie.rivals import RIVALS
from coterie.verbs.compare.methods import AMONG_BLOCKS, methods
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.compare.texts import judging_texts
from coterie.verbs.search.blocks import MULTIPLE
from coterie.verbs.search.forecast import Forecast, Opened, search_work, with_times
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.record import opening_record
from coterie.verbs.shared.result import Result
from coterie.verbs.shared.workspace import Workspace, open_workspace

GENERATING = 3.0
"""Times a pass over a text that one timed round takes: the context is read and tokens follow."""


@public
def compare_plan(
    request: CompareRequest, *, store: Path | str | None = None, progress: Progress | None = None
) -> Result:
    """What `compare` would do and how long every method takes, as if each were alone.

    Args:
        request: Which methods, at which sizes, on which model.
        store: SQLite file of observations, which is only read; None is the user's cache.
        progress: Told what is being done.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check()
    progress, began = progress or NoProgress(), time.monotonic()
    prepared = prepare(request.opening(), progress=progress)
    texts = judging_texts(prepared, request.lengths)
    ready = time.monotonic()
    with open_workspace(prepared, store=store, progress=progress, read_only=True) as workspace:
        setting_up = workspace.engine.spent.setup_seconds
        loading = time.monotonic() - ready - setting_up
        opened = Opened(time.monotonic() - began, loading, setting_up)
        n_layers, each = workspace.stack.n_players, workspace.engine.seconds()
        keeps = tuple(sorted((n_layers - one for one in request.removals), reverse=True))
        forecast = Forecast(workspace, each, opened, keeps[-1])
        playing = [_playing(workspace, request, name, keeps, each) for name in request.played]
        # Every answer is judged on all texts, and the full model once.
        answers = sum(_seeds(request, name) for name in request.played) * len(keeps)
        judging = sum(forecast.observing(one, *[keeps[0]] * answers) for one in texts.values())
        timed = len(keeps) * 2 * request.rounds * GENERATING
        judging += timed * forecast.observing(workspace.calibration.texts.some(np.array([0])))
        record = opening_record("plan", workspace)
        record.command = request.command()
        part = search_work(workspace, keeps, each)
        part.at_most = True
        times = [forecast.opening(), *playing, PlannedTimePart("judging", judging, judging)]
        record.plan = _whole(with_times(part, times), playing, each, workspace)
        return Result(record)


def _whole(
    part: PlanPart, playing: list[PlannedTimePart], each: Seconds, workspace: Workspace
) -> PlanPart:
    """The plan of all methods together: layers by the seconds that they take."""
    texts, seconds = workspace.calibration.texts, sum(one.most for one in playing)
    part.layer_executions = round(seconds / max(each.layer, 1e-12))
    part.layer_tokens_executed = part.layer_executions * texts.tokens.size
    part.layer_tokens_asked = max(part.layer_tokens_asked, part.layer_tokens_executed)
    part.seconds = seconds
    return part


def _seeds(request: CompareRequest, name: str) -> int:
    return request.seeds if methods()[name].chancy else 1


def _playing(
    workspace: Workspace,
    request: CompareRequest,
    name: str,
    keeps: tuple[int, ...],
    each: Seconds,
) -> PlannedTimePart:
    """How long one method takes for all its seeds."""
    seeds, n_layers = _seeds(request, name), workspace.stack.n_players
    if name not in RIVALS:
        own = name.removesuffix(AMONG_BLOCKS)
        times = 1 if own == name else 1 + MULTIPLE
        part = search_work(workspace, keeps, each, method=own, times=times)
        seconds = part.seconds if request.time is None else min(part.seconds, request.time)
    else:
        layers = RIVALS[name].layers(n_layers, keeps)
        # A coalition is read off once for about as many layers as the mean size has.
        seconds = layers * (each.layer + each.rest / max(1, min(keeps)))
    return PlannedTimePart(methods()[name].title, seeds * seconds, seeds * seconds)
