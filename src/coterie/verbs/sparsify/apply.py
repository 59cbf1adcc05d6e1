"""Prune a model in memory into a folder, judge it on held-out text, and prove what was written.

One model is in memory at a time. What is kept of the full one is what it did on the held-out texts;
what is kept of the pruned one is what its checkpoint must do when it is read back.
"""

import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.game.coalitions import Observations
from coterie.models.cutting.verify import Expectation, Verification, expect, verify
from coterie.models.cutting.write import write_cut
from coterie.models.files.shards import DTYPES
from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import Stack, find_stack
from coterie.plain import Json
from coterie.sparsity.layerwise import prune_layers
from coterie.sparsity.levels import PrunedLayer
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import find_units
from coterie.sparsity.variant_game import AS_IT_IS, ChoiceGame, Choices, Readings
from coterie.sparsity.write import SparseWriter, Sparsity, check_written
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.allocation import Allocation
from coterie.verbs.sparsify.request import SparsifyRequest

Result = TypeVar("Result")

VERIFIED_SEQUENCES = 2
"""Calibration sequences on which the reloaded checkpoint must do what the pruned model did."""


@dataclass(frozen=True, eq=False)
class Outcome:
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
class Whole:
    """What is kept of the full model when it is let go.

    Attributes:
        before: What it did on the held-out texts, ``(1, n_sequences)``.
        readings: What it predicted there, for others to be compared with.
        shape: How much was computed at once.
    """

    before: Observations
    readings: Readings
    shape: BatchShape


@dataclass(frozen=True, eq=False)
class Written:
    """A pruned checkpoint, and what the model that it was written from did; that one may go.

    Attributes:
        layers: What became of each layer, without tensors.
        expected: What the checkpoint must do when it is read back.
        before: The full model on the held-out texts; ``after`` the pruned one.
    """

    layers: tuple[PrunedLayer, ...]
    expected: Expectation
    before: Observations
    after: Observations


def judged_whole(workspace: Workspace, progress: Progress) -> Whole:
    """The full model on the held-out texts."""
    progress.say("judging the full model on held-out text")
    stack, shape = find_stack(workspace.model), workspace.calibration.engine.shape
    judge = _judge(workspace.prepared, workspace.model, stack, shape)
    return Whole(judge.observe(as_it_is(stack)), judge.readings, shape)


def pruned_here(
    workspace: Workspace,
    request: SparsifyRequest,
    shared: Allocation,
    whole: Whole,
    folder: Path,
    progress: Progress,
) -> Written:
    """Prune the opened model itself, all of its layers; its weights are changed."""
    source, model = workspace.prepared.source, workspace.model
    return _pruned(source, model, workspace.prepared, request, shared, whole, folder, progress)


def pruned_cut(
    prepared: Prepared,
    request: SparsifyRequest,
    shared: Allocation,
    whole: Whole,
    folder: Path,
    progress: Progress,
) -> Outcome:
    """Prune the model without the layers that are cut, and prove what was written.

    It is read from files of its own, so the full model must have been let go before.

    Raises:
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    source = prepared.source
    with tempfile.TemporaryDirectory() as scratch:
        write_cut(source, np.flatnonzero(shared.kept).tolist(), Path(scratch) / "cut")
        trust = source.trust_remote_code
        cut = resolve(str(Path(scratch) / "cut"), None, trust_remote_code=trust)

        def written() -> Written:
            model = load_model(cut, dtype=prepared.dtype, device=prepared.device)
            return _pruned(cut, model, prepared, request, shared, whole, folder, progress)

        return proved(run_and_collect(written), cut, folder, progress)


def run_and_collect(work: Callable[[], Result]) -> Result:
    """What some work gives, when the model that it had in memory is really gone.

    Objects that refer to each other outlast the last name for them until they are collected.
    """
    done = work()
    gc.collect()
    return done


def proved(written: Written, source: Source, folder: Path, progress: Progress) -> Outcome:
    """Read the checkpoint back and hold it against what was pruned; its model must be gone.

    Args:
        source: What was pruned, layers that were cut not in it.

    Raises:
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    progress.say("reading the checkpoint back")
    trusted = source.trust_remote_code
    checked = verify(written.expected, folder, trust_remote_code=trusted)
    gc.collect()
    sparse = resolve(str(folder), None, trust_remote_code=trusted)
    # Zeros are counted in the widest dtype on disk: what a narrower one rounds to zero is none.
    model = load_model(sparse, dtype=_widest(sparse), device="cpu")
    counted = check_written(written.layers, source, model, folder)
    told = _verification(checked, counted)
    return Outcome(written.layers, counted, written.before, written.after, told)


def _widest(source: Source) -> torch.dtype | None:
    """The dtype that holds every floating-point weight of a checkpoint exactly, if it has any."""
    found = {DTYPES[entry.dtype] for entry in source.entries if entry.dtype in DTYPES}
    return reduce(torch.promote_types, found) if found else None


def as_it_is(stack: Stack) -> Choices:
    """The one candidate whose layers are all unchanged."""
    return np.full((1, stack.n_players), AS_IT_IS, dtype=np.intp)


def nothing(layer: int, choice: int) -> dict[str, torch.Tensor]:
    """For judging a model as it is: no layer has variants."""
    raise LookupError(f"layer {layer} has no variant {choice}")


def _judge(
    prepared: Prepared,
    model: PreTrainedModel,
    stack: Stack,
    shape: BatchShape,
    like: Readings | None = None,
) -> ChoiceGame:
    """What a model as it is does on the held-out texts."""
    tokens = torch.from_numpy(prepared.held_out.tokens)
    memory = prepared.request.state_memory
    return ChoiceGame(model, stack, tokens, shape, nothing, state_memory=memory, like=like)


def _pruned(
    source: Source,
    model: PreTrainedModel,
    prepared: Prepared,
    request: SparsifyRequest,
    shared: Allocation,
    whole: Whole,
    folder: Path,
    progress: Progress,
) -> Written:
    """Prune in sequence into the folder, then measure the model as it now is."""
    stack = find_stack(model)
    units = find_units(model, stack, request.base.player_kind(), request.group())
    kept = np.repeat(shared.kept, units.per_layer)
    writer = SparseWriter(source, model, stack)
    measured = torch.from_numpy(prepared.measured.tokens)
    layers = prune_layers(
        model,
        stack,
        measured,
        units.allocation(shared.sparsity[kept]),
        find_pruner(request.pruner),
        stored=writer.stored,
        progress=lambda done, total: progress.step("pruning layers", done, total),
    )
    written = writer.write(layers, folder)
    progress.say("judging the sparse model on held-out text")
    after = _judge(prepared, model, stack, whole.shape, whole.readings).observe(as_it_is(stack))
    everyone = [True] * stack.n_players
    few = torch.from_numpy(prepared.calibration.tokens[:VERIFIED_SEQUENCES])
    expected = expect(model, stack, everyone, few)
    return Written(written, expected, whole.before, after)


def _verification(checked: Verification, counted: Sparsity) -> dict[str, Json]:
    return {
        "summary": f"zeros as pruned, loss within {checked.nll_difference:.1e} nats per token and "
        f"logits within {checked.max_logit_difference:.1e} of the pruned model",
        "nll_difference": checked.nll_difference,
        "max_logit_difference": checked.max_logit_difference,
        "generate": checked.generate_ok,
        "zeros_of_all_parameters": counted.of_all,
    }
