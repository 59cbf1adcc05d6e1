"""`prune --dry-run`: what the run would take, stated before it is taken."""

from pathlib import Path

import numpy as np

from coterie.engine.cost import plan
from coterie.game.coalitions import to_text
from coterie.game.search import plain_cost
from coterie.game.study import checked
from coterie.report.schema.prune import PlanPart, Record
from coterie.verbs.search.by_utility import planned
from coterie.verbs.search.choose import tenth_of_paper
from coterie.verbs.search.targets import target_of
from coterie.verbs.search.utilities import tasks_of
from coterie.verbs.shared.costs import _at_once, memory_of, times_of
from coterie.verbs.shared.opened import Opened, opened
from coterie.verbs.shared.output import check_output
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import Progress, Silent
from coterie.verbs.shared.record import opening_record
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.settings import generator, settings_for, size_asked


def prune_plan(
    request: Request,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Record:
    """State coalitions, work, memory, disk and estimated seconds; observe nothing that is kept.

    The estimate times the full model and the empty coalition once on the calibration texts: their
    difference is the layers, the rest is the head. Streamed, it is one pass of the full model, the
    head counted into the layers. A time limit is not foreseen.

    Raises:
        UserError: as `prune` would, for the same reasons.
    """
    request.check(cutting=True)
    progress = progress or Silent()
    output = Path(output)
    check_output(output, overwrite=overwrite)
    prepared = prepare(request, progress=progress, cutting=True)
    check_output(output, overwrite=overwrite, source=prepared.source.folder)
    with opened(prepared, store=store, progress=progress, read_only=True) as table:
        record = opening_record("plan", table, output=output)
        part = _of_design(table) if request.method == "paper" else _of_search(table)
        if request.utility is not None:
            part = planned(table, tasks_of(request), part, _keep(table))
        part["keep"] = _keep(table)
        part["source_bytes"] = sum(entry.n_bytes for entry in prepared.source.entries)
        record["plan"] = part
        if table.streamed:
            record["plan"]["pass_bytes"] = table.streamed[0].pass_bytes
        return record


def _of_design(table: Opened) -> PlanPart:
    """The paper's design is drawn before it is played: its work is known."""
    request, n_players = table.request, table.stack.n_players
    keep = _keep(table)
    settings = settings_for(request, n_players, table.locked, keep)
    asked = checked(settings, n_players, generator(request))
    texts = table.calibration.texts
    work = plan(asked, texts.n_sequences, texts.length, table.stack.players)
    held = table.calibration.known_coalitions()
    known = sum(to_text(row) in held for row in asked)
    layer, head = times_of(table)
    seconds = work.layer_executions * layer + work.head_executions * head
    return PlanPart(
        distinct=len(asked),
        known=known,
        sequences=texts.n_sequences,
        layer_executions=work.layer_executions,
        layer_tokens_asked=work.layer_tokens_asked,
        layer_tokens_executed=work.layer_tokens_executed,
        head_tokens=work.head_tokens,
        memory_bytes=memory_of(table, work, asked),
        disk_bytes=_disk(table, keep),
        seconds=seconds * (1 - known / len(asked)) / _at_once(table),
    )


def _of_search(table: Opened) -> PlanPart:
    """A search decides as it goes: the most it may ask, or its plain answers where they are more.

    Evolution and guided search have a limit; the other methods ask their candidates in full.
    """
    request, n_players, keep = table.request, table.stack.n_players, _keep(table)
    texts, n_locked = table.calibration.texts, len(table.locked)
    plain = {
        "one-shot": n_players - n_locked + 1,
        "contiguous": keep + 1,
        "evolve": 1,
    }.get(request.method, plain_cost(n_players, [keep], n_locked=n_locked))
    layers = plain * n_players * texts.n_sequences
    if request.method in ("guided", "evolve"):
        most = tenth_of_paper(n_players, table.locked)
        if request.budget is not None:
            most = request.budget * n_players * texts.n_sequences
        layers = most if request.method == "evolve" else max(most, layers)
    one_cut = ~np.eye(n_players, dtype=bool)
    narrow = plan(one_cut, texts.n_sequences, texts.length, table.stack.players)
    executions = -(-layers // texts.n_sequences)
    distinct = -(-executions // keep)
    layer, head = times_of(table)
    return PlanPart(
        distinct=distinct,
        known=len(table.calibration.known_coalitions()),
        sequences=texts.n_sequences,
        layer_executions=executions,
        layer_tokens_asked=layers * texts.length,
        layer_tokens_executed=layers * texts.length,
        head_tokens=distinct * texts.n_sequences * (texts.length - 1),
        memory_bytes=memory_of(table, narrow, one_cut),
        disk_bytes=_disk(table, keep),
        seconds=(executions * layer + distinct * head) / _at_once(table),
        at_most=True,
    )


def _keep(table: Opened) -> int:
    """Players that will be left; of a target, the fewest it may come to."""
    target = target_of(table)
    if target is not None:
        return target.keeps(table.locked, table.request.player_kind())[-1]
    return size_asked(table.request, table.stack.n_players, table.locked) or 0


def _disk(table: Opened, keep: int) -> int:
    """Bytes of the checkpoint, taking the players to be of one size."""
    entries = table.prepared.source.entries
    whole = sum(entry.n_bytes for entry in entries)
    n_players = table.stack.n_players
    if table.stack.players == "layer":
        word = f"{table.stack.path.split('.')[-1]}."
        players = sum(entry.n_bytes for entry in entries if word in entry.name)
    else:  # blocks have no common name on disk: their share of the parameters
        blocks = sum(p.numel() for block in table.stack.layers for p in block.parameters())
        players = whole * blocks // sum(p.numel() for p in table.model.parameters())
    return whole - players * (n_players - keep) // n_players
