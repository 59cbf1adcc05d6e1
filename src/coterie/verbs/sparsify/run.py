"""`sparsify`: from a model's name to a checkpoint with zeros where they cost least, proved."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from coterie.game.utilities import read
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.plain import Json
from coterie.report.card.sparsify import sparsity_card
from coterie.report.schema.basics import SizePart
from coterie.report.schema.generation import GenerationPart
from coterie.report.schema.sparsify import SparsityRecord
from coterie.sparsity.calibration import refused_unless_replayed
from coterie.sparsity.checks import check_allocation, check_tokens
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import Units, find_units
from coterie.sparsity.write import SparseWriter
from coterie.verbs.evaluate.nearness import nearness
from coterie.verbs.outputs.finished import FinishedRun, ended_as
from coterie.verbs.outputs.page import write_page
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.records import write_record
from coterie.verbs.outputs.rehearsal import rehearse, weights_take
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.licence import licence_of
from coterie.verbs.shared.prepared import Prepared, prepare
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.verdict import verdict_part
from coterie.verbs.shared.workspace import Workspace, open_workspace
from coterie.verbs.sparsify.allocation import share_out
from coterie.verbs.sparsify.apply import (
    FullOutcome,
    Job,
    SparseOutcome,
    WrittenSparse,
    judge_full_model,
    proved,
    pruned_cut,
    pruned_here,
    run_and_collect,
)
from coterie.verbs.sparsify.apply_streamed import applied_streamed, streaming_part
from coterie.verbs.sparsify.contribution_methods import check_contributions
from coterie.verbs.sparsify.record import opening_part, sparsity_part
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.texts import with_pruning_texts


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a run is, before a weight is loaded."""

    prepared: Prepared
    request: SparsifyRequest
    identity: dict[str, Json]
    output: Path
    progress: Progress


@dataclass(frozen=True, eq=False)
class _Found:
    """Everything known when the source model leaves memory.

    Attributes:
        record: The record as far as it is known.
        job: How the model is pruned, and the folder until the checkpoint takes its place.
        units: What has a sparsity of its own.
        vocabulary: Tokens of the model, for losses that are not finite.
        began: When pruning and judging began, by the monotonic clock.
        done: How far they have come.
    """

    record: SparsityRecord
    job: Job
    units: Units
    vocabulary: int
    began: float
    done: FullOutcome | WrittenSparse | SparseOutcome


@public
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
    game is played through the store, so a run that was stopped goes on with what was observed of
    it; allocations that were judged and layers that were pruned are not kept.

    >>> from coterie import SparsifyRequest, sparsify
    >>> rule = {"sparsity": 0.5, "allocation": "uniform", "pruner": "magnitude"}
    >>> asked = SparsifyRequest("reference", sequences=2, length=16, **rule)
    >>> sparsify(asked, output=folder / "out", store=folder / "s.sqlite").sparsity.realised
    0.5

    Args:
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file of observations; None is the user's cache.
        request: Which model, how sparse, by what rule.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    request.check()
    progress, output = progress or NoProgress(), Path(output)
    place = OutputFolder(output, request, overwrite=overwrite, store=store)
    before = FinishedRun(place, ended=ended_as(SparsityRecord))
    prepared = prepare(request.opening(), progress=progress, choosing=False)
    check_contributions(request, prepared)
    prepared = with_pruning_texts(prepared, request, progress)
    identity = {**prepared.identity(request.as_json()), "verb": "sparsify"}
    identity["pruning_sha256"] = prepared.pruning.sha256 if prepared.pruning else None
    if done := before.same(identity, progress, source=prepared.source.folder):
        return done
    # Where layers are cut too, how many is not known yet: half is the least that is asked for.
    rehearse(place, prepared.source, identity, needed=weights_take(prepared.source, 0.5))
    with ExitStack() as ending:
        begin = partial(ending.enter_context, place.written())
        asked = _Asked(prepared, request, identity, output, progress)
        found = run_and_collect(lambda: _found(asked, store, begin))
        _finish(found, _outcome(found))
    return found.record


def _found(asked: _Asked, store: Path | str | None, begin: Callable[[], Path]) -> _Found:
    """Share out, judge the full model, and prune it if it stays whole; then it leaves memory.

    Args:
        asked: What this run is.
        store: SQLite file of observations.
        begin: Makes the folder for the checkpoint: nothing is written before it is needed.
    """
    prepared, request, progress = asked.prepared, asked.request, asked.progress
    with open_workspace(prepared, store=store, progress=progress) as workspace:
        refuse_unless_possible(workspace, request)
        shared = share_out(workspace, request, progress)
        units = find_units(
            workspace.model, find_stack(workspace.model), workspace.stack.players, request.group()
        )
        record = opening_part(
            workspace, request, shared, units, identity=asked.identity, output=asked.output
        )
        job, began = Job(prepared, request, shared, begin(), progress), time.monotonic()
        done: FullOutcome | WrittenSparse | SparseOutcome
        # Three ways: layer by layer from files; here in memory; or, if layers are cut, afterwards.
        if request.stream:
            done = applied_streamed(workspace, job)
            record.streaming = streaming_part(workspace, record.cost.coalitions)
        else:
            done = judge_full_model(workspace, progress)
            if shared.kept.all():
                done = pruned_here(workspace, job, done)
        record.cluster = workspace.opened.cluster_part()
        vocabulary = workspace.calibration.engine.vocabulary
        return _Found(
            record=record, job=job, units=units, vocabulary=vocabulary, began=began, done=done
        )


def _outcome(found: _Found) -> SparseOutcome:
    """What is left to do when the full model is gone."""
    job = found.job
    if isinstance(found.done, FullOutcome):
        return pruned_cut(job, found.done)
    if isinstance(found.done, WrittenSparse):
        return proved(found.done, job.prepared.source, job.folder, job.progress)
    return found.done


def _finish(found: _Found, done: SparseOutcome) -> None:
    """Complete the record; put it and the card beside the weights."""
    record, job = found.record, found.job
    source, folder = job.prepared.source, job.folder
    record.cost.seconds["pruning, judging and checking"] = time.monotonic() - found.began
    record.sparsity = sparsity_part(
        job.request, job.allocation, found.units, done.layers, done.counted
    )
    # Both losses with the same floor, so that their difference is one of models.
    full, _ = read(done.before, "nll", found.vocabulary)
    sparse, not_finite = read(done.after, "nll", found.vocabulary)
    part = verdict_part(full[0], sparse[0], done.after, job.prepared.held_out, not_finite)
    record.verdict = replace(part, generation=_continued(job))
    record.size = _sizes(source, folder)
    record.verification = done.verification
    card = sparsity_card(record, licence_of(source.folder / "README.md"))
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_record(folder, record)
    write_page(folder, record)


def _continued(job: Job) -> GenerationPart | None:
    """What the full and the sparse model write, in turn; None where they do not fit in memory."""
    if job.request.stream:
        return None
    job.progress.say("letting the full and the sparse model write")
    prepared, source = job.prepared, job.prepared.source
    sparse = Source(job.folder.name, job.folder, None, source.trust_remote_code)
    dtype, device = prepared.dtype, prepared.device
    opened = partial(load_model, dtype=dtype, device=device)
    tokenizer = prepared.recipe.tokenizer
    near = nearness(
        "full", partial(opened, source), partial(opened, sparse), prepared.held_out, tokenizer
    )
    return near.generation


def refuse_unless_possible(workspace: Workspace, request: SparsifyRequest) -> None:
    """Refuse before the game what could not be done after it; one text runs through the model.

    Raises:
        UserError: one line about the first thing.
    """
    stack = find_stack(workspace.model)
    # Its weights must be found on disk under the names of the model.
    SparseWriter(workspace.prepared.source, workspace.model, stack)
    units = find_units(workspace.model, stack, workspace.stack.players, request.group())
    # The target everywhere: a pattern that fits no map, or a packed weight, shows at once.
    allocation = units.allocation(np.full(len(units.weights), request.target()))
    check_allocation(stack, allocation)
    check_tokens(
        stack, allocation, find_pruner(request.pruner), workspace.prepared.measured.tokens.size
    )
    with refused_unless_replayed(workspace.model):
        workspace.engine.check_layers()


def _sizes(source: Source, folder: Path) -> SizePart:
    new = Source(source.name, folder)
    return SizePart(
        parameters_before=sum(entry.n_values for entry in source.entries),
        parameters_after=sum(entry.n_values for entry in new.entries),
        bytes_before=sum(entry.n_bytes for entry in source.entries),
        bytes_after=sum(entry.n_bytes for entry in new.entries),
    )
