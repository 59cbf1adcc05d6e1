"""`sparsify`: from a model's name to a checkpoint with zeros where they cost least, proved."""

import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from transformers import PreTrainedModel

from coterie.evaluation.calibration import TextSet
from coterie.game.coalitions import Observations
from coterie.game.utilities import read
from coterie.models.checkpoints import load_model
from coterie.models.safety import Expectation, Verification, expect, verify
from coterie.models.sources import Source, resolve
from coterie.models.stack import Stack, find_stack
from coterie.models.streaming import write_cut
from coterie.pipeline.folder import as_read, check_output, written_aside
from coterie.pipeline.licence import licence_of
from coterie.pipeline.opening import Opened, Prepared, Progress, Silent, opened, prepare
from coterie.pipeline.sparsify_allocation import Shared, share_out
from coterie.pipeline.sparsify_record import opening_part, sparsity_part
from coterie.pipeline.sparsify_request import SparsifyRequest
from coterie.pipeline.verdict import verdict_part
from coterie.plain import Json
from coterie.report.record import SizePart
from coterie.report.sparsity import SparsityRecord, sparsity_card
from coterie.sparsity.choices import AS_IT_IS, ChoiceGame
from coterie.sparsity.interface import PrunedLayer
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.sequential import check_allocation, check_tokens, prune_layers
from coterie.sparsity.units import find_units
from coterie.sparsity.write import SparseWriter, Sparsity, check_written

VERIFIED_SEQUENCES = 2
"""Calibration sequences on which the reloaded checkpoint must give the pruned model's logits."""

RECORD = "coterie.json"


@dataclass(frozen=True, eq=False)
class _Opened:
    """What is pruned: the source, or the source without the layers that were cut."""

    source: Source
    model: PreTrainedModel
    stack: Stack
    judge: ChoiceGame
    before: Observations


@dataclass(frozen=True, eq=False)
class _Pruned:
    """A model that was pruned and written, measured on held-out text."""

    layers: tuple[PrunedLayer, ...]
    expected: Expectation
    after: Observations


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
    prepared = prepare(request.base, progress=progress)
    identity = {**prepared.identity(), **request.as_json(), "verb": "sparsify"}
    if done is not None and done.get("identity") == as_read(identity):
        progress.say(f"{output.name} holds the finished run of this very request")
        return done
    check_output(output, overwrite=overwrite, source=prepared.source.folder)
    with opened(prepared, store=store, progress=progress) as table, ExitStack() as stack:
        _refuse(table, request)
        shared = share_out(table, request, progress)
        record = opening_part(table, request, shared, identity, output)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = _measured(table, shared, scratch, progress)
        folder = stack.enter_context(written_aside(output, overwrite=overwrite))
        _finish(record, prepared, table, request, shared, work, folder, progress)
    return record


def _finish(
    record: SparsityRecord,
    prepared: Prepared,
    table: Opened,
    request: SparsifyRequest,
    shared: Shared,
    work: _Opened,
    folder: Path,
    progress: Progress,
) -> None:
    """Prune, write and judge; reload and verify; put record and card beside the weights."""
    began = time.monotonic()
    pruned = _pruned(table, request, shared, work, folder, progress)
    record["cost"]["seconds"]["pruning and judging"] = time.monotonic() - began
    began = time.monotonic()
    checked, counted = _reloaded(work, pruned, folder)
    record["sparsity"] = sparsity_part(table, request, shared, pruned.layers, counted)
    vocabulary = table.calibration.engine.vocabulary
    full, _ = read(work.before, "nll", vocabulary)
    sparse, not_finite = read(pruned.after, "nll", vocabulary)
    record["verdict"] = verdict_part(
        full[0], sparse[0], pruned.after, prepared.held_out, not_finite
    )
    record["size"] = _sizes(prepared.source, folder)
    record["verification"] = _verification(checked, counted)
    record["cost"]["seconds"]["checking"] = time.monotonic() - began
    card = sparsity_card(record, licence_of(prepared.source.folder / "README.md"))
    (folder / "README.md").write_text(card, encoding="utf-8")
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def _refuse(table: Opened, request: SparsifyRequest) -> None:
    """Whatever the pruner could not do is told before anything is asked of the model."""
    stack = find_stack(table.model)
    SparseWriter(table.prepared.source, table.model, stack)
    units = find_units(table.model, stack, table.stack.players, request.group())
    allocation = units.allocation(np.full(len(units.weights), request.target()))
    check_allocation(stack, allocation)
    tokens = torch.from_numpy(table.calibration.texts.tokens)
    check_tokens(stack, allocation, find_pruner(request.pruner), tokens)


def _measured(table: Opened, shared: Shared, scratch: Path, progress: Progress) -> _Opened:
    """The model to prune, and the full model's losses on the held-out texts."""
    progress.say("judging the full model on held-out text")
    shape = table.calibration.engine.shape
    stack = find_stack(table.model)
    tokens = _tokens(table.prepared.held_out)
    judge = ChoiceGame(table.model, stack, tokens, shape, _nothing)
    before = judge.observe(_as_it_is(stack))
    source = table.prepared.source
    if shared.kept.all():
        return _Opened(source, table.model, stack, judge, before)
    kept = np.flatnonzero(shared.kept).tolist()
    write_cut(source, kept, scratch / "cut")
    cut = resolve(str(scratch / "cut"), None, trust_remote_code=source.trust_remote_code)
    model = load_model(cut, dtype=table.prepared.dtype, device=table.prepared.device)
    fewer = find_stack(model)
    return _Opened(
        cut, model, fewer, ChoiceGame(model, fewer, tokens, shape, _nothing, like=judge), before
    )


def _pruned(
    table: Opened,
    request: SparsifyRequest,
    shared: Shared,
    work: _Opened,
    folder: Path,
    progress: Progress,
) -> _Pruned:
    """Prune in sequence into the folder, then measure the model as it now is."""
    units = find_units(work.model, work.stack, table.stack.players, request.group())
    kept = np.repeat(shared.kept, units.per_layer)
    writer = SparseWriter(work.source, work.model, work.stack)
    calibration = torch.from_numpy(table.calibration.texts.tokens)
    layers = prune_layers(
        work.model,
        work.stack,
        calibration,
        units.allocation(shared.sparsity[kept]),
        find_pruner(request.pruner),
        stored=writer.stored,
        progress=lambda done, total: progress.step("pruning layers", done, total),
    )
    written = writer.write(layers, folder)
    progress.say("judging the sparse model on held-out text")
    after = work.judge.observe(_as_it_is(work.stack))
    everyone = [True] * work.stack.n_players
    expected = expect(work.model, work.stack, everyone, calibration[:VERIFIED_SEQUENCES])
    return _Pruned(written, expected, after)


def _reloaded(work: _Opened, pruned: _Pruned, folder: Path) -> tuple[Verification, Sparsity]:
    trusted = work.source.trust_remote_code
    checked = verify(pruned.expected, folder, trust_remote_code=trusted)
    model = load_model(
        resolve(str(folder), None, trust_remote_code=trusted), dtype=None, device="cpu"
    )
    return checked, check_written(pruned.layers, work.source, model, folder)


def _finished(output: Path) -> SparsityRecord | None:
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cast("SparsityRecord", record) if isinstance(record, dict) else None


def _nothing(layer: int, choice: int) -> dict[str, torch.Tensor]:
    raise LookupError(f"layer {layer} has no variant {choice}")


def _as_it_is(stack: Stack) -> np.ndarray:
    return np.full((1, stack.n_players), AS_IT_IS, dtype=np.intp)


def _tokens(texts: TextSet) -> torch.Tensor:
    return torch.from_numpy(texts.tokens)


def _sizes(source: Source, folder: Path) -> SizePart:
    new = Source(source.name, folder)
    return SizePart(
        parameters_before=sum(entry.n_values for entry in source.entries),
        parameters_after=sum(entry.n_values for entry in new.entries),
        bytes_before=sum(entry.n_bytes for entry in source.entries),
        bytes_after=sum(entry.n_bytes for entry in new.entries),
    )


def _verification(checked: Verification, counted: Sparsity) -> dict[str, Json]:
    return {
        "summary": f"zeros as pruned, loss within {checked.nll_difference:.1e} nats per token and "
        f"logits within {checked.max_logit_difference:.1e} of the pruned model",
        "nll_difference": checked.nll_difference,
        "max_logit_difference": checked.max_logit_difference,
        "generate": checked.generate_ok,
        "zeros_of_all_parameters": counted.of_all,
    }
