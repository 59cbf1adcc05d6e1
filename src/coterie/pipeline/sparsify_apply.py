"""Prune a model in memory into a folder, judge it on held-out text, and prove what was written."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from coterie.game.coalitions import Observations
from coterie.models.checkpoints import load_model
from coterie.models.safety import Expectation, Verification, expect, verify
from coterie.models.sources import Source, resolve
from coterie.models.stack import Stack, find_stack
from coterie.models.streaming import write_cut
from coterie.pipeline.opening import Opened, Progress
from coterie.pipeline.sparsify_allocation import Shared
from coterie.pipeline.sparsify_request import SparsifyRequest
from coterie.plain import Json
from coterie.sparsity.choices import AS_IT_IS, ChoiceGame, Choices
from coterie.sparsity.interface import PrunedLayer
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.sequential import prune_layers
from coterie.sparsity.units import find_units
from coterie.sparsity.write import SparseWriter, Sparsity, check_written

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


def applied(
    table: Opened, request: SparsifyRequest, shared: Shared, folder: Path, progress: Progress
) -> Outcome:
    """Prune in sequence, write and judge; then reload and verify.

    Raises:
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    with tempfile.TemporaryDirectory() as scratch:
        work = _measured(table, shared, Path(scratch), progress)
        pruned = _pruned(table, request, shared, work, folder, progress)
        progress.say("reading the checkpoint back")
        checked, counted = _reloaded(work, pruned, folder)
    return Outcome(
        pruned.layers, counted, work.before, pruned.after, _verification(checked, counted)
    )


def as_it_is(stack: Stack) -> Choices:
    """The one candidate whose layers are all unchanged."""
    return np.full((1, stack.n_players), AS_IT_IS, dtype=np.intp)


def nothing(layer: int, choice: int) -> dict[str, torch.Tensor]:
    """For judging a model as it is: no layer has variants."""
    raise LookupError(f"layer {layer} has no variant {choice}")


def _measured(table: Opened, shared: Shared, scratch: Path, progress: Progress) -> _Opened:
    """The model to prune, and the full model's losses on the held-out texts."""
    progress.say("judging the full model on held-out text")
    shape = table.calibration.engine.shape
    stack = find_stack(table.model)
    tokens = torch.from_numpy(table.prepared.held_out.tokens)
    judge = ChoiceGame(table.model, stack, tokens, shape, nothing)
    before = judge.observe(as_it_is(stack))
    source = table.prepared.source
    if shared.kept.all():
        return _Opened(source, table.model, stack, judge, before)
    kept = np.flatnonzero(shared.kept).tolist()
    write_cut(source, kept, scratch / "cut")
    cut = resolve(str(scratch / "cut"), None, trust_remote_code=source.trust_remote_code)
    model = load_model(cut, dtype=table.prepared.dtype, device=table.prepared.device)
    fewer = find_stack(model)
    return _Opened(
        cut, model, fewer, ChoiceGame(model, fewer, tokens, shape, nothing, like=judge), before
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
    after = work.judge.observe(as_it_is(work.stack))
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


def _verification(checked: Verification, counted: Sparsity) -> dict[str, Json]:
    return {
        "summary": f"zeros as pruned, loss within {checked.nll_difference:.1e} nats per token and "
        f"logits within {checked.max_logit_difference:.1e} of the pruned model",
        "nll_difference": checked.nll_difference,
        "max_logit_difference": checked.max_logit_difference,
        "generate": checked.generate_ok,
        "zeros_of_all_parameters": counted.of_all,
    }
