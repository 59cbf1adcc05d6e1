"""`prune --dry-run`: what the run would take, stated before it is taken."""

import time
from collections.abc import Sequence
from math import ceil

from coterie.engine.interface import Seconds
from coterie.report.schema.plan import PlannedTimePart, PlanPart
from coterie.verbs.prune.amounts import amount_of, warn_of_amount
from coterie.verbs.prune.blocks import may_cut_blocks
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.search.blocks import MULTIPLE
from coterie.verbs.search.by_utility import planned
from coterie.verbs.search.forecast import (
    EXPECTED_SHARE,
    Forecast,
    Opened,
    search_work,
    with_times,
)
from coterie.verbs.search.served import ASKED
from coterie.verbs.search.targets import target_of
from coterie.verbs.search.task_utilities import tasks_of
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.record import opening_record
from coterie.verbs.shared.result import Result
from coterie.verbs.shared.serving import serving_asked
from coterie.verbs.shared.settings import size_asked
from coterie.verbs.shared.workspace import Workspace, open_workspace


def plan_layers(request: PruneRequest, to: Destination) -> Result:
    """State coalitions, work, memory, disk and estimated seconds; observe nothing that is kept.

    One layer and the head are timed on a few texts. Streamed, it is one pass of the full model,
    the head counted into the layers. Every part of the run is stated, what is expected and the
    most; --time and --budget bound the search.

    Raises:
        UserError: as `prune` would, for the same reasons.
    """
    request.check()
    began = time.monotonic()
    place = to.folder(request)
    place.check()
    prepared = prepare(request, progress=to.progress)
    place.add(prepared.source.folder)
    place.check()
    ready = time.monotonic()
    # The store is only read: a plan leaves nothing behind.
    with open_workspace(
        prepared, store=to.store, progress=to.progress, read_only=True
    ) as workspace:
        record = opening_record("plan", workspace, output=to.output)
        seconds_opening = workspace.engine.spent.setup_seconds
        opened = Opened(
            time.monotonic() - began, time.monotonic() - ready - seconds_opening, seconds_opening
        )
        keeps = _keeps(workspace)
        each = workspace.engine.seconds()
        # Blocks come after layers where a cut of them can be saved, for so many times as much.
        goes_on = request.goes_on_among_blocks and may_cut_blocks(workspace)
        part = search_work(workspace, (keeps[-1],), each, times=1 + MULTIPLE if goes_on else 1)
        if request.utility is not None:
            part = planned(workspace, tasks_of(request), part, keeps[-1])
        forecast = Forecast(workspace, each, opened, keeps[-1])
        searching = forecast.searching(part)
        _within(part, searching.most)
        times = [forecast.opening(), searching]
        times += [*_with_served(part, workspace, keeps, each), *forecast.deciding()]
        with_times(part, [*times, forecast.judging(), forecast.writing()])
        part.keep = keeps[-1]
        # The plan begins with this sentence: only a warning is said beforehand.
        warn_of_amount(workspace, keeps, to.progress)
        part.cuts = amount_of(workspace, keeps)
        part.source_bytes = sum(entry.n_bytes for entry in prepared.source.entries)
        record.plan = part
        if (pass_bytes := workspace.engine.pass_bytes) > 0:
            part.pass_bytes = pass_bytes
        return Result(record)


def _keeps(workspace: Workspace) -> list[int]:
    """Players that will be left; of a target, all sizes that may meet it, the fewest last."""
    target = target_of(workspace)
    if target is not None:
        return target.keeps(workspace.locked, workspace.request.player_kind())
    return [size_asked(workspace.request, workspace.stack.n_players, workspace.locked) or 0]


def _within(part: PlanPart, seconds: float) -> None:
    """Leave of the work of a search what is done in its time, where that is less than all."""
    if seconds >= part.seconds:
        return
    share = seconds / part.seconds
    part.distinct = ceil(share * part.distinct)
    part.layer_executions = ceil(share * part.layer_executions)
    part.layer_tokens_asked = ceil(share * part.layer_tokens_asked)
    part.layer_tokens_executed = ceil(share * part.layer_tokens_executed)
    part.head_tokens = ceil(share * part.head_tokens)
    part.seconds, part.at_most = seconds, True


def _with_served(
    part: PlanPart, workspace: Workspace, keeps: Sequence[int], each: Seconds
) -> list[PlannedTimePart]:
    """Count in what `--serve` adds to a search: the readable cuts that it asks for, at most.

    Args:
        part: The plan without them; it is changed.
        workspace: The opened model and its texts.
        keeps: Players that will be left, of every size.
        each: Seconds of a layer, and of the rest, of one coalition on the calibration texts.
    """
    source, n_players = workspace.prepared.source, workspace.stack.n_players
    if serving_asked(workspace.request, source, n_players) is None:
        return []
    texts, asked, layers = workspace.calibration.texts, ASKED * len(keeps), ASKED * sum(keeps)
    part.distinct += asked
    part.layer_executions += layers
    part.layer_tokens_asked += layers * texts.tokens.size
    part.layer_tokens_executed += layers * texts.tokens.size
    part.head_tokens += asked * texts.n_sequences * (texts.length - 1)
    seconds = (layers * each.layer + asked * each.rest) / workspace.engine.at_once
    part.seconds += seconds
    part.at_most = True
    return [PlannedTimePart("searching among cuts for --serve", EXPECTED_SHARE * seconds, seconds)]
