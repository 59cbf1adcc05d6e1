"""`sparsify --stream`: pruned from the files layer by layer, judged and proved the same way.

The model is never whole: of weights there is the layer that is pruned, its pruned form, and the
next one as it is read. A few witness texts walk through the layers as they come out of the pruner;
the checkpoint, streamed from its own files, must do to them what the pruned layers did.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from coterie.engine.batches import Batches
from coterie.engine.streamed_game import StreamedGame
from coterie.game.coalitions import Vector
from coterie.plain import Json
from coterie.report.schema.basics import StreamPart
from coterie.sparsity.layerwise import Calibration, PruningTask, prune_layers
from coterie.sparsity.levels import PrunedLayer
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import find_units
from coterie.sparsity.variant_game import ChoiceGame, JudgedModel, no_variants
from coterie.sparsity.write import SparseWriter, Sparsity, check_written
from coterie.verbs.shared.streamed_check import Observed, reopened
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.apply import VERIFIED_SEQUENCES, Job, Outcome


@dataclass(frozen=True, eq=False)
class _Pruned:
    """Layers that were written, and the loss of the witness texts behind them, ``(n,)``."""

    layers: tuple[PrunedLayer, ...]
    losses: Vector


def applied_streamed(workspace: Workspace, job: Job) -> Outcome:
    """Prune the layers of the files in sequence into a copy of them; judge and prove that.

    Raises:
        VerificationError: the written checkpoint does not do what the pruned layers did.
    """
    game, prepared, progress = workspace.streamed[0], job.prepared, job.progress
    tokens = torch.from_numpy(prepared.held_out.tokens)
    progress.say("judging the full model on held-out text")
    memory = prepared.request.state_memory
    judged = _judged(game, tokens, memory)
    full = ChoiceGame(judged, no_variants)
    before = full.observe(judged.as_it_is())
    pruned = _pruned(workspace, job)
    progress.say("reading the checkpoint back")
    observed = Observed(
        workspace.calibration.texts.tokens[:VERIFIED_SEQUENCES],
        pruned.losses,
        prepared.dtype,
        prepared.device,
        memory,
    )
    trust = prepared.source.trust_remote_code
    sparse, gap = reopened(observed, job.folder, "of the pruned layers", trust_remote_code=trust)
    weights = sparse.batches.layers.weights
    counted = check_written(pruned.layers, prepared.source, sparse.model, job.folder, weights)
    progress.say("judging the sparse model on held-out text")
    judged = _judged(sparse, tokens, memory)
    after = ChoiceGame(judged, no_variants, like=full.readings).observe(judged.as_it_is())
    verification = _verification(gap, len(pruned.losses), counted)
    return Outcome(pruned.layers, counted, before, after, verification)


def streaming_part(workspace: Workspace, distinct: int) -> StreamPart:
    """What streaming the source took, over everything that went through its layers."""
    game = workspace.streamed[0]
    read = game.traffic.bytes_read
    return StreamPart(
        passes=read // max(1, game.pass_bytes),
        bytes_read=read,
        bytes_per_coalition=read / max(distinct, 1),
        bytes_spilled=sum(one.spilled for one in workspace.streamed),
        seconds_reading=game.traffic.seconds_reading,
        seconds_waiting=game.traffic.seconds_waiting,
        checked=game.checked,
    )


def _judged(game: StreamedGame, tokens: torch.Tensor, memory: int | None) -> JudgedModel:
    return JudgedModel(game.model, game.stack, tokens, game.shape, memory, game.batches)


def _pruned(workspace: Workspace, job: Job) -> _Pruned:
    """Prune in sequence into the folder; witness texts go through the pruned layers."""
    model, stack, batches = workspace.model, workspace.stack, workspace.streamed[0].batches
    units = find_units(model, stack, stack.players, job.request.group())
    writer = SparseWriter(job.prepared.source, model, stack)
    measured = torch.from_numpy(job.prepared.measured.tokens)
    few = torch.from_numpy(workspace.calibration.texts.tokens[:VERIFIED_SEQUENCES])
    weights = batches.layers.weights
    witness = Calibration(model, stack, few, weights)
    layers = prune_layers(
        PruningTask(model, stack, measured, find_pruner(job.request.pruner), weights),
        units.allocation(job.allocation.sparsity),
        stored=writer.stored,
        progress=lambda done, total: job.progress.step("pruning layers", done, total),
    )
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
