"""`sparsify --dry-run`: what sharing out, pruning and judging would take, stated beforehand."""

from pathlib import Path

import numpy as np

from coterie.game.coalitions import to_text
from coterie.models.loaded.stack import find_stack
from coterie.players import label
from coterie.report.schema.sparsify_plan import (
    ContributionsCostPart,
    SharingCostPart,
    SparsityPlan,
    UnitSizePart,
)
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.search import SHARE
from coterie.sparsity.units import Units
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.prepared import prepare, text_part
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.record import model_part
from coterie.verbs.shared.workspace import Workspace, open_workspace
from coterie.verbs.sparsify.contribution_methods import check_contributions
from coterie.verbs.sparsify.contributions import ContributionPlan, plan_contributions
from coterie.verbs.sparsify.memory import peak_bytes
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.rules._interface import RuleTask
from coterie.verbs.sparsify.run import refuse_unless_possible
from coterie.verbs.sparsify.texts import with_pruning_texts

PASSES = 2
"""Of the texts for pruning through a layer that is pruned: to measure it, and to go on."""


@public
def sparsify_plan(
    request: SparsifyRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> SparsityPlan:
    """State the cost of contributions, of sharing out, pruning and judging; keep nothing.

    Args:
        request: Which model, how sparse, by what rule.
        output: Folder for the checkpoint; nothing is written.
        overwrite: Replace what is there.
        store: SQLite file of observations; None is the user's cache.
        progress: Shows what is being done.

    Raises:
        UserError: as `sparsify` would, for the same reasons.
    """
    request.check()
    progress, output = progress or NoProgress(), Path(output)
    place = OutputFolder(output, request, overwrite=overwrite, store=store)
    place.check()
    # Files and texts alone: what can be refused without weights is refused here.
    prepared = prepare(request.opening(), progress=progress, choosing=False)
    check_contributions(request, prepared)
    prepared = with_pruning_texts(prepared, request, progress)
    place.add(prepared.source.folder)
    place.check()
    # Read only: a dry run leaves no observation behind.
    with open_workspace(prepared, store=store, progress=progress, read_only=True) as workspace:
        refuse_unless_possible(workspace, request)
        return _stated(workspace, request, output)


def _stated(workspace: Workspace, request: SparsifyRequest, output: Path) -> SparsityPlan:
    task, texts = RuleTask.of(workspace, request, NoProgress()), workspace.calibration.texts
    stack, units = task.stack, task.units
    bounds, held_out = request.bounds(), workspace.prepared.held_out
    measured = workspace.prepared.measured
    work = None
    if request.rule().contributions:
        work = plan_contributions(request, workspace)
    contributions = None if work is None else _contributions(workspace, work)
    measuring = PASSES * stack.n_players * measured.tokens.size
    needed = find_pruner(request.pruner).needs != "nothing"
    sharing = _sharing(task, measuring)
    # Single steps are judged on a share of the texts, so there are more variants than full
    # judgements.
    candidates = 0.0 if sharing is None else sharing.candidates / SHARE
    most = peak_bytes(workspace.prepared, request, stack, units, candidates)
    judging = 2 * stack.n_players * held_out.n_sequences * held_out.length
    # Without contributions, coalitions that leave one player out stand for what is asked.
    everyone = ~np.eye(workspace.stack.n_players, dtype=bool)
    asked = everyone if work is None else work.coalitions
    found = SparsityPlan(
        kind="sparsify plan",
        command=request.command(output),
        request=request.as_json(),
        model=model_part(workspace),
        calibration=text_part(texts),
        pruning=text_part(measured) if request.measures() else None,
        held_out=text_part(held_out),
        target=request.target(),
        pattern=request.pattern,
        reachable=[bounds.least, bounds.most],
        units=_sizes(workspace, units),
        contributions=contributions,
        sharing=sharing,
        pruning_layer_tokens=measuring if needed else 0,
        judging_layer_tokens=judging,
        memory_bytes=workspace.engine.memory_bytes(asked),
        pruning_memory_bytes=most.memory,
        disk_bytes=sum(entry.n_bytes for entry in workspace.prepared.source.entries),
        temporary_bytes=most.disk,
        seconds=0.0,
    )
    found.seconds = _seconds(workspace, found)
    if (pass_bytes := workspace.engine.pass_bytes) > 0:
        found.pass_bytes = pass_bytes
    return found


def _contributions(workspace: Workspace, work: ContributionPlan) -> ContributionsCostPart:
    held = workspace.calibration.known_coalitions()
    return ContributionsCostPart(
        how=work.method.how,
        coalitions=len(work.coalitions),
        known=sum(to_text(row) in held for row in work.coalitions),
        layer_executions=work.executions,
        layer_tokens_asked=work.layer_tokens,
        layer_tokens_executed=work.layer_tokens_executed,
    )


def _sharing(task: RuleTask, measuring: int) -> SharingCostPart | None:
    """What a rule asks beyond contributions.

    Args:
        measuring: Layer-tokens of the texts for pruning on their way through unpruned layers.
    """
    cost = task.request.rule().cost(task)
    if cost is None:
        return None
    return SharingCostPart(
        what=cost.what,
        candidates=cost.candidates,
        layer_tokens=round(cost.candidates * task.stack.n_players * cost.judged.tokens.size),
        measuring_layer_tokens=cost.walks * measuring,
    )


def _sizes(workspace: Workspace, units: Units) -> list[UnitSizePart]:
    kind = workspace.request.player_kind()
    return [
        UnitSizePart(unit=label(kind, unit), weights=int(weights))
        for unit, weights in enumerate(units.weights)
    ]


def _seconds(workspace: Workspace, found: SparsityPlan) -> float:
    """Running layers and heads, by one layer and the head, timed once."""
    layer, head = workspace.engine.seconds()
    texts = workspace.calibration.texts
    whole = layer * workspace.stack.n_players  # one candidate through all layers
    tokens = find_stack(workspace.model).n_players * texts.n_sequences * texts.length
    run = found.pruning_layer_tokens + found.judging_layer_tokens
    if (sharing := found.sharing) is not None:
        run += sharing.measuring_layer_tokens + sharing.layer_tokens
    seconds = (whole + head) * run / tokens  # most of it ends in the head
    if (game := found.contributions) is not None:
        # What the store knows already is not run again.
        spare = 1 - game.known / max(1, game.coalitions)
        seconds += spare * (game.layer_executions * layer + game.coalitions * head)
    return seconds
