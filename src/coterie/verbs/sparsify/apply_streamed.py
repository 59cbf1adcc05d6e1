"""`sparsify --stream`: pruned from the files layer by layer, judged and proved the same way.

The model is never whole: of weights there is the layer that is pruned, its pruned form, and the
next one as it is read. A few witness texts walk through the layers as they come out of the pruner;
the checkpoint, streamed from its own files, must do to them what the pruned layers did.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from coterie.engine.batches import Batches
from coterie.engine.interface import PROVED_SEQUENCES, Engine
from coterie.engine.proof import LossProof
from coterie.engine.streamed_game import StreamedGame
from coterie.game.coalitions import Vector
from coterie.plain import Json
from coterie.report.schema.basics import StreamPart
from coterie.sparsity.calibration import Calibration, PruningTask
from coterie.sparsity.layerwise import prune_layers
from coterie.sparsity.levels import PrunedLayer
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import find_units
from coterie.sparsity.variant_game import ChoiceGame, JudgedModel, no_variants
from coterie.sparsity.write import SparseWriter, Sparsity, check_sparse
from coterie.verbs.shared.text_game import stream_part
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.apply import Job, SparseOutcome


@dataclass(frozen=True, eq=False)
class _Pruned:
    """Layers that were written, and the loss of the witness texts behind them, ``(n,)``."""

    layers: tuple[PrunedLayer, ...]
    losses: Vector


def applied_streamed(workspace: Workspace, job: Job) -> SparseOutcome:
    """Prune the layers of the files in sequence into a copy of them; judge and prove that.

    Raises:
        VerificationError: the written checkpoint does not do what the pruned layers did.
    """
    prepared, progress = job.prepared, job.progress
    tokens = torch.from_numpy(prepared.held_out.tokens)
    progress.say("judging the full model on held-out text")
    memory = prepared.request.state_memory
    judged = _judged(workspace.engine, tokens, memory)
    full = ChoiceGame(judged, no_variants)
    before = full.observe(judged.as_it_is())
    pruned = _pruned(workspace, job)
    progress.say("reading the checkpoint back")
    # The checkpoint, opened from its own files, must give the witness texts the same losses.
    reopen = partial(
        StreamedGame,
        tokens=torch.from_numpy(workspace.calibration.texts.tokens[:PROVED_SEQUENCES]),
        dtype=prepared.dtype,
        device=prepared.device,
        state_memory=memory,
        kl=False,
    )
    proof = LossProof(pruned.losses, prepared.dtype, reopen, whose="of the pruned layers")
    trust = prepared.source.trust_remote_code
    sparse, gap = proof.reopened(job.folder, trust_remote_code=trust)
    weights = _from_files(sparse).layers.weights
    counted = check_sparse(pruned.layers, prepared.source, sparse.model, job.folder, weights)
    progress.say("judging the sparse model on held-out text")
    judged = _judged(sparse, tokens, memory)
    after = ChoiceGame(judged, no_variants, like=full.readings).observe(judged.as_it_is())
    verification = _verification(gap, len(pruned.losses), counted)
    return SparseOutcome(pruned.layers, counted, before, after, verification)


def streaming_part(workspace: Workspace, distinct: int) -> StreamPart:
    """What streaming the source took, over everything that went through its layers."""
    part = stream_part(workspace.games, distinct)
    assert part is not None  # the weights are on disk
    # Pruning and judging go through the layers too, outside of any question.
    return replace(part, passes=part.bytes_read // max(1, workspace.engine.pass_bytes))


def _from_files(engine: Engine) -> Batches:
    """The parts of a model whose weights are read from files."""
    assert engine.batches is not None
    return engine.batches


def _judged(engine: Engine, tokens: torch.Tensor, memory: int | None) -> JudgedModel:
    return JudgedModel(
        model=engine.model,
        stack=engine.stack,
        tokens=tokens,
        shape=engine.shape,
        state_memory=memory,
        batches=engine.batches,
    )


def _pruned(workspace: Workspace, job: Job) -> _Pruned:
    """Prune in sequence into the folder; witness texts go through the pruned layers."""
    model, stack, batches = workspace.model, workspace.stack, _from_files(workspace.engine)
    units = find_units(model, stack, stack.players, job.request.group())
    writer = SparseWriter(job.prepared.source, model, stack)
    measured = torch.from_numpy(job.prepared.measured.tokens)
    few = torch.from_numpy(workspace.calibration.texts.tokens[:PROVED_SEQUENCES])
    weights = batches.layers.weights
    witness = Calibration(model, stack, few, weights)
    layers = prune_layers(
        PruningTask(model, stack, measured, find_pruner(job.request.pruner), weights),
        units.allocation(job.allocation.sparsity),
        stored=writer.stored,
        progress=lambda done, total: job.progress.step("pruning layers", done, total),
    )
    # Layers flow one by one: pruned, run on the witness texts, written, forgotten.
    written = writer.write(_witnessed(layers, witness), job.folder)
    return _Pruned(written, _losses(batches, witness.states, few))


def _witnessed(layers: Iterable[PrunedLayer], witness: Calibration) -> Iterator[PrunedLayer]:
    """The same layers; each is run on the witness texts while its pruned weights are in place."""
    for pruned in layers:
        witness.advance(pruned.layer)
        yield pruned


def _losses(batches: Batches, states: torch.Tensor, tokens: torch.Tensor) -> Vector:
    """Loss of texts from their states behind the last layer, ``(n_sequences,)``."""
    with batches.ending():
        read = batches.read_full(states, tokens, kl=False)
    return np.asarray(read.nll.double().mean(dim=1).cpu().numpy())


def _verification(gap: float, n_sequences: int, counted: Sparsity) -> dict[str, Json]:
    return {
        "summary": f"streamed; zeros as pruned, on each of {n_sequences} sequences the loss is"
        f" within {gap:.1e} nats per token of what the pruned layers gave; generation was not"
        " tried, for the model is never whole",
        "nll_difference": gap,
        "max_logit_difference": None,
        "generate": None,
        "zeros_of_all_parameters": counted.of_all,
    }
