"""`sparsify`: from a model's name to a checkpoint with zeros where they cost least, proved."""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import numpy as np
import torch

from coterie.evaluation.replay import replayed
from coterie.game.utilities import read
from coterie.models.sources import Source
from coterie.models.stack import find_stack
from coterie.pipeline.folder import as_read, check_output, written_aside
from coterie.pipeline.licence import licence_of
from coterie.pipeline.opening import Opened, Progress, Silent, opened, prepare
from coterie.pipeline.sparsify_allocation import Shared, share_out
from coterie.pipeline.sparsify_apply import applied
from coterie.pipeline.sparsify_record import opening_part, sparsity_part
from coterie.pipeline.sparsify_request import SparsifyRequest
from coterie.pipeline.sparsify_stream import applied_streamed, streaming_part
from coterie.pipeline.verdict import verdict_part
from coterie.report.record import SizePart
from coterie.report.sparsity import SparsityRecord, sparsity_card
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.sequential import check_allocation, check_tokens, refused_unless_replayed
from coterie.sparsity.units import find_units
from coterie.sparsity.write import SparseWriter

RECORD = "coterie.json"


def sparsify(
    request: SparsifyRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> SparsityRecord:
    """Share the sparsity out, prune layer by layer, write the checkpoint, and prove it.

    A run that has finished in ``output`` with the same request and weights is reported again. The
    game is played through the store, so a run that was stopped goes on there.

    Args:
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file of observations; None is the user's cache.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    request.check()
    progress, output = progress or Silent(), Path(output)
    done = None if overwrite else _finished(output)
    if done is None:
        check_output(output, overwrite=overwrite)
    prepared = prepare(request.base, progress=progress, choosing=False)
    identity = {**prepared.identity(), **request.as_json(), "verb": "sparsify"}
    del identity["state_memory"]  # decides how it is run, not what comes out
    if done is not None and done.get("identity") == as_read(identity):
        progress.say(f"{output.name} holds the finished run of this very request")
        return done
    check_output(output, overwrite=overwrite, source=prepared.source.folder)
    with opened(prepared, store=store, progress=progress) as table, ExitStack() as stack:
        refuse_unless_possible(table, request)
        shared = share_out(table, request, progress)
        record = opening_part(table, request, shared, identity, output)
        folder = stack.enter_context(written_aside(output, overwrite=overwrite))
        _finish(record, table, request, shared, folder, progress)
    return record


def _finish(
    record: SparsityRecord,
    table: Opened,
    request: SparsifyRequest,
    shared: Shared,
    folder: Path,
    progress: Progress,
) -> None:
    """Prune, write, judge and verify; put record and card beside the weights."""
    began = time.monotonic()
    done = (applied_streamed if table.streamed else applied)(
        table, request, shared, folder, progress
    )
    record["cost"]["seconds"]["pruning, judging and checking"] = time.monotonic() - began
    record["sparsity"] = sparsity_part(table, request, shared, done.layers, done.counted)
    if table.streamed:
        record["streaming"] = streaming_part(table, record["cost"]["coalitions"])
    vocabulary = table.calibration.engine.vocabulary
    full, _ = read(done.before, "nll", vocabulary)
    sparse, not_finite = read(done.after, "nll", vocabulary)
    held_out, source = table.prepared.held_out, table.prepared.source
    record["verdict"] = verdict_part(full[0], sparse[0], done.after, held_out, not_finite)
    record["size"] = _sizes(source, folder)
    record["verification"] = done.verification
    card = sparsity_card(record, licence_of(source.folder / "README.md"))
    (folder / "README.md").write_text(card, encoding="utf-8")
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def refuse_unless_possible(table: Opened, request: SparsifyRequest) -> None:
    """Whatever the pruner could not do is told before anything is asked of the model.

    Raises:
        UserError: one line about the first thing.
    """
    stack = find_stack(table.model)
    SparseWriter(table.prepared.source, table.model, stack)
    units = find_units(table.model, stack, table.stack.players, request.group())
    allocation = units.allocation(np.full(len(units.weights), request.target()))
    check_allocation(stack, allocation)
    tokens = torch.from_numpy(table.calibration.texts.tokens)
    check_tokens(stack, allocation, find_pruner(request.pruner), tokens)
    with refused_unless_replayed(table.model):
        if table.streamed:
            table.streamed[0].check_layers()
        else:
            replayed(table.model, stack, tokens[[0, -1]])


def _finished(output: Path) -> SparsityRecord | None:
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cast("SparsityRecord", record) if isinstance(record, dict) else None


def _sizes(source: Source, folder: Path) -> SizePart:
    new = Source(source.name, folder)
    return SizePart(
        parameters_before=sum(entry.n_values for entry in source.entries),
        parameters_after=sum(entry.n_values for entry in new.entries),
        bytes_before=sum(entry.n_bytes for entry in source.entries),
        bytes_after=sum(entry.n_bytes for entry in new.entries),
    )
