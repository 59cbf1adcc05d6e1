"""`prune --dry-run`: what the run would take, stated before it is taken."""

import numpy as np

from coterie.engine.cost import plan
from coterie.game.coalitions import Coalitions, to_text
from coterie.game.search.methods import SEARCH_METHODS
from coterie.report.schema.plan import PlanPart
from coterie.verbs.prune.amounts import tell_amount
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.search.by_utility import planned
from coterie.verbs.search.targets import target_of
from coterie.verbs.search.task_utilities import tasks_of
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.record import opening_record
from coterie.verbs.shared.result import Result
from coterie.verbs.shared.settings import size_asked, task_of
from coterie.verbs.shared.workspace import Workspace, open_workspace


def plan_layers(request: PruneRequest, to: Destination) -> Result:
    """State coalitions, work, memory, disk and estimated seconds; observe nothing that is kept.

    The estimate times the full model and the empty coalition once on the calibration texts: their
    difference is the layers, the rest is the head. Streamed, it is one pass of the full model, the
    head counted into the layers. A time limit is not foreseen.

    Raises:
        UserError: as `prune` would, for the same reasons.
    """
    request.check()
    place = to.folder(request)
    place.check()
    prepared = prepare(request, progress=to.progress)
    place.add(prepared.source.folder)
    place.check()
    # The store is only read: a plan leaves nothing behind.
    with open_workspace(
        prepared, store=to.store, progress=to.progress, read_only=True
    ) as workspace:
        record = opening_record("plan", workspace, output=to.output)
        part = _part(workspace)
        if request.utility is not None:
            part = planned(workspace, tasks_of(request), part, _keeps(workspace)[-1])
        part.keep = _keeps(workspace)[-1]
        part.cuts = tell_amount(workspace, _keeps(workspace), to.progress)
        part.source_bytes = sum(entry.n_bytes for entry in prepared.source.entries)
        record.plan = part
        if (pass_bytes := workspace.engine.pass_bytes) > 0:
            part.pass_bytes = pass_bytes
        return Result(record)


def _part(workspace: Workspace) -> PlanPart:
    """The work of the search: known where it draws a design, else bounded."""
    request, keep = workspace.request, _keeps(workspace)[-1]
    method = SEARCH_METHODS[request.method]
    task = task_of(request, workspace.stack.n_players, workspace.locked, (keep,))
    asked = method.known_beforehand(task)
    # Methods that draw a design first can say exactly what they will ask.
    if asked is not None:
        return _of_design(workspace, asked, keep)
    n_sequences = workspace.calibration.texts.n_sequences
    asks = method.most_layer_sequences(task, n_sequences)
    return _of_search(workspace, asks, min(asks, method.most_executed(task, n_sequences)), keep)


def _of_design(workspace: Workspace, asked: Coalitions, keep: int) -> PlanPart:
    """A design that is drawn before it is played: its work is known."""
    texts = workspace.calibration.texts
    work = plan(asked, texts.n_sequences, texts.length, workspace.stack.players)
    held = workspace.calibration.known_coalitions()
    known = sum(to_text(row) in held for row in asked)
    layer, head = workspace.engine.seconds()
    seconds = work.layer_executions * layer + work.head_executions * head
    return PlanPart(
        distinct=len(asked),
        known=known,
        sequences=texts.n_sequences,
        layer_executions=work.layer_executions,
        layer_tokens_asked=work.layer_tokens_asked,
        layer_tokens_executed=work.layer_tokens_executed,
        head_tokens=work.head_tokens,
        memory_bytes=workspace.engine.memory_bytes(asked),
        disk_bytes=_disk(workspace, keep),
        seconds=seconds * (1 - known / len(asked)) / workspace.engine.at_once,
    )


def _of_search(workspace: Workspace, asks: int, runs: int, keep: int) -> PlanPart:
    """A search that decides as it goes, and asks and runs at most so many layer-sequences.

    Args:
        workspace: The opened model and its texts.
        asks: Layers × sequences that it asks, one coalition at a time.
        runs: Layers × sequences that it runs, prefixes shared.
        keep: Players that will be left.
    """
    texts, n_players = workspace.calibration.texts, workspace.stack.n_players
    one_cut = ~np.eye(n_players, dtype=bool)
    # Parts of the texts are asked too, so layer-sequences become whole passes, rounded up.
    executions = -(-runs // texts.n_sequences)
    distinct = -(-asks // texts.n_sequences // keep)
    layer, head = workspace.engine.seconds()
    return PlanPart(
        distinct=distinct,
        known=len(workspace.calibration.known_coalitions()),
        sequences=texts.n_sequences,
        layer_executions=executions,
        layer_tokens_asked=asks * texts.length,
        layer_tokens_executed=runs * texts.length,
        head_tokens=distinct * texts.n_sequences * (texts.length - 1),
        memory_bytes=workspace.engine.memory_bytes(one_cut),
        disk_bytes=_disk(workspace, keep),
        seconds=(executions * layer + distinct * head) / workspace.engine.at_once,
        at_most=True,
    )


def _keeps(workspace: Workspace) -> list[int]:
    """Players that will be left; of a target, all sizes that may meet it, the fewest last."""
    target = target_of(workspace)
    if target is not None:
        return target.keeps(workspace.locked, workspace.request.player_kind())
    return [size_asked(workspace.request, workspace.stack.n_players, workspace.locked) or 0]


def _disk(workspace: Workspace, keep: int) -> int:
    """Bytes of the checkpoint, taking the players to be of one size."""
    entries = workspace.prepared.source.entries
    whole = sum(entry.n_bytes for entry in entries)
    n_players = workspace.stack.n_players
    if workspace.stack.players == "layer":
        # On disk a layer is known by the name of the list that holds it, such as "layers.".
        word = f"{workspace.stack.path.split('.')[-1]}."
        players = sum(entry.n_bytes for entry in entries if word in entry.name)
    else:  # blocks have no common name on disk: their share of the parameters
        blocks = sum(p.numel() for block in workspace.stack.layers for p in block.parameters())
        players = whole * blocks // sum(p.numel() for p in workspace.model.parameters())
    return whole - players * (n_players - keep) // n_players
