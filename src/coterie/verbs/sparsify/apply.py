"""Prune a model in memory into a folder, judge it on held-out text, and prove what was written.

One model is in memory at a time. Of the full one is kept what it did on the held-out texts; of the
pruned one, what its checkpoint must do when it is read back.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.interface import PROVED_SEQUENCES
from coterie.game.coalitions import Observations
from coterie.models.cutting.verify import Expectation, Verification, expect, verify
from coterie.models.cutting.write import write_cut
from coterie.models.files.shards import DTYPES
from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import Stack, find_stack
from coterie.plain import Json
from coterie.scratch import Scratch
from coterie.sparsity.calibration import PruningTask
from coterie.sparsity.layerwise import prune_layers
from coterie.sparsity.levels import PrunedLayer
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import find_units
from coterie.sparsity.variant_game import ChoiceGame, JudgedModel, Readings, no_variants
from coterie.sparsity.write import SparseWriter, Sparsity, check_sparse
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.rules._interface import Allocation

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class SparseOutcome:
    """A checkpoint that was written, judged and proved.

    Attributes:
        layers: What became of each layer that is in it, without tensors.
        counted: Zeros counted after it was read back.
        before: The full model on the held-out texts, ``(1, n_sequences)``; ``after`` the sparse.
        verification: How near the checkpoint is to what was pruned, for the record.
    """

    layers: tuple[PrunedLayer, ...]
    counted: Sparsity
    before: Observations
    after: Observations
    verification: dict[str, Json]


@dataclass(frozen=True, eq=False)
class Job:
    """What is pruned, how sparse it becomes, and where it is written.

    Attributes:
        prepared: The model's files and texts.
        request: Which pruner.
        allocation: Sparsities of all units.
        folder: For the checkpoint; written aside until all is well.
        progress: Shows what is being done.
    """

    prepared: Prepared
    request: SparsifyRequest
    allocation: Allocation
    folder: Path
    progress: Progress


@dataclass(frozen=True, eq=False)
class FullOutcome:
    """What is kept of the full model when it leaves memory.

    Attributes:
        before: What it did on the held-out texts, ``(1, n_sequences)``.
        readings: What it predicted there, for others to be compared with.
        shape: How much was computed at once.
    """

    before: Observations
    readings: Readings
    shape: BatchShape


@dataclass(frozen=True, eq=False)
class WrittenSparse:
    """A pruned checkpoint, and what the model it was written from did before it left memory.

    Attributes:
        layers: What became of each layer, without tensors.
        expected: What the checkpoint must do when it is read back.
        before: The full model on the held-out texts; ``after`` the pruned one.
    """

    layers: tuple[PrunedLayer, ...]
    expected: Expectation
    before: Observations
    after: Observations


def judge_full_model(workspace: Workspace, progress: Progress) -> FullOutcome:
    """The full model on the held-out texts."""
    progress.say("judging the full model on held-out text")
    stack, shape = find_stack(workspace.model), workspace.calibration.engine.shape
    judged = _judged(workspace.prepared, workspace.model, stack, shape)
    game = ChoiceGame(judged, no_variants)
    # The readings are kept: the sparse model is compared with them when this one is gone.
    return FullOutcome(game.observe(judged.as_it_is()), game.readings, shape)


def pruned_here(workspace: Workspace, job: Job, full: FullOutcome) -> WrittenSparse:
    """Prune the opened model itself, all of its layers; its weights are changed.

    Args:
        workspace: The opened model.
        job: How it is pruned, and where to.
        full: What it did before.
    """
    return _pruned(job, job.prepared.source, workspace.model, full)


def pruned_cut(job: Job, full: FullOutcome) -> SparseOutcome:
    """Prune the model without the layers that are cut, and prove what was written.

    It is read from files of its own, so the full model must have left memory before.

    Raises:
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    source, prepared = job.prepared.source, job.prepared
    with Scratch() as scratch:
        # A temporary checkpoint without the cut layers is pruned as any other model.
        write_cut(source, np.flatnonzero(job.allocation.kept).tolist(), scratch / "cut")
        trust = source.trust_remote_code
        cut = resolve(str(scratch / "cut"), None, trust_remote_code=trust)

        def written() -> WrittenSparse:
            model = load_model(cut, dtype=prepared.dtype, device=prepared.device)
            return _pruned(job, cut, model, full)

        return proved(run_and_collect(written), cut, job.folder, job.progress)


def run_and_collect(work: Callable[[], Result]) -> Result:
    """Do some work, and free the memory of the model that it used before its result is returned.

    The parts of a model refer to each other, so Python frees them only when its collector runs.
    """
    done = work()
    gc.collect()
    return done


def proved(
    written: WrittenSparse, source: Source, folder: Path, progress: Progress
) -> SparseOutcome:
    """Read the checkpoint back and compare it with what was pruned, whose model has left memory.

    Args:
        written: What the checkpoint must do.
        source: What was pruned, layers that were cut not in it.
        folder: The checkpoint.
        progress: Shows what is being done.

    Raises:
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    progress.say("reading the checkpoint back")
    trusted = source.trust_remote_code
    checked = verify(written.expected, folder, trust_remote_code=trusted)
    gc.collect()
    # The model that was verified is out of memory before the next one is loaded.
    sparse = resolve(str(folder), None, trust_remote_code=trusted)
    # Zeros are counted in the widest dtype on disk: what a narrower one rounds to zero is none.
    model = load_model(sparse, dtype=_widest(sparse), device="cpu")
    counted = check_sparse(written.layers, source, model, folder)
    proof = _verification(checked, counted)
    return SparseOutcome(written.layers, counted, written.before, written.after, proof)


def _widest(source: Source) -> torch.dtype | None:
    """The dtype that holds every floating-point weight of a checkpoint exactly, if it has any."""
    found = {DTYPES[entry.dtype] for entry in source.entries if entry.dtype in DTYPES}
    return reduce(torch.promote_types, found) if found else None


def _judged(
    prepared: Prepared, model: PreTrainedModel, stack: Stack, shape: BatchShape
) -> JudgedModel:
    """A model and the held-out texts."""
    tokens = torch.from_numpy(prepared.held_out.tokens)
    memory = prepared.request.state_memory
    return JudgedModel(model, stack, tokens, shape, state_memory=memory)


def _pruned(job: Job, source: Source, model: PreTrainedModel, full: FullOutcome) -> WrittenSparse:
    """Prune in sequence into the folder, then measure the model as it now is."""
    stack, prepared, request = find_stack(model), job.prepared, job.request
    units = find_units(model, stack, request.player_kind(), request.group())
    # The model at hand has no cut layers any more, so their sparsities are left out.
    kept = np.repeat(job.allocation.kept, units.per_layer)
    writer = SparseWriter(source, model, stack)
    measured = torch.from_numpy(prepared.measured.tokens)
    # Nothing is pruned yet: each layer is when the writer asks for it, so one is in memory.
    layers = prune_layers(
        PruningTask(model, stack, measured, find_pruner(request.pruner)),
        units.allocation(job.allocation.sparsity[kept]),
        stored=writer.stored,
        progress=lambda done, total: job.progress.step("pruning layers", done, total),
    )
    written = writer.write(layers, job.folder)
    job.progress.say("judging the sparse model on held-out text")
    judged = _judged(prepared, model, stack, full.shape)
    after = ChoiceGame(judged, no_variants, like=full.readings).observe(judged.as_it_is())
    # What is read back later must do on a few texts what this model in memory does.
    few = torch.from_numpy(prepared.calibration.tokens[:PROVED_SEQUENCES])
    expected = expect(model, stack, [True] * stack.n_players, few)
    return WrittenSparse(written, expected, full.before, after)


def _verification(checked: Verification, counted: Sparsity) -> dict[str, Json]:
    return {
        "summary": f"zeros as pruned, loss within {checked.nll_difference:.1e} nats per token and "
        f"logits within {checked.max_logit_difference:.1e} of the pruned model",
        "nll_difference": checked.nll_difference,
        "max_logit_difference": checked.max_logit_difference,
        "generate": checked.generate_ok,
        "zeros_of_all_parameters": counted.of_all,
    }
