"""ReplaceMe: a run of layers becomes one fitted linear map (arXiv:2505.02819).

The run between whose ends the state turns least (mean cosine) is removed. In its place the output
M of the feed-forward block before it goes through a matrix T, fitted on the calibration texts by
least squares, min ‖M T + Y − L‖, with Y the state that M is added to and L the state after the run.
T is folded into that block's last matrix: the checkpoint is plain. (LLM-Streamline, 2403.19135,
puts a small trained network in the same place.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers.pytorch_utils import Conv1D

from coterie.engine.parts.layers import leading
from coterie.errors import ModelError
from coterie.game.search.plain import windows
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.cutting.write import Written
from coterie.models.files.shards import Progress
from coterie.models.files.sources import Source
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.routing import patched, zero_output
from coterie.models.tolerance import tolerance
from coterie.rivals._rewriting import reader, write_changed
from coterie.rivals._states import batches, layer_states, states_of
from coterie.rivals.interface import Chosen, DoesNotApply, Meter, Rewrite, Task

RIDGE = 1e-6
"""Relative to the mean diagonal of MᵀM: directions the texts never take are left alone."""


@dataclass(frozen=True, eq=False)
class Folded:
    """A linear map, and the matrix it goes into.

    Attributes:
        layer: The layer before the run.
        name: The matrix, as the layer calls it, without ``.weight``.
        transposed: The matrix is stored as ``(in, out)``.
        bias: It has a bias, which goes through the map as well.
        map: ``T``, ``(width, width)``: a row vector M becomes M T.
        kept: The layers that stay.
    """

    layer: int
    name: str
    transposed: bool
    bias: bool
    map: Tensor
    kept: tuple[int, ...]


def choose(task: Task, meter: Meter) -> Chosen:
    """Find the run of each size, fit its map.

    Raises:
        DoesNotApply: A layer does not end in adding the output of one matrix to the state.
    """
    # Where can a map go? Into the last matrix of a feed-forward block.
    feed_forward = _blocks(task)
    turned = mean_cosines(task, meter)
    chosen: Chosen = {}
    for removal, keep in zip(task.removals, task.keeps, strict=True):
        runs = windows(task.n_players, keep, locked=task.locked)
        starts = [int(np.flatnonzero(~run)[0]) for run in runs]
        # The map is folded into the layer before the run, so layer 0 cannot begin one.
        starts = [start for start in starts if start > 0]
        if not starts:
            meter.remarks.append(f"no run of {removal} free layers has a layer before it")
            continue
        # The paper takes the run between whose ends the cosine is largest.
        start = max(starts, key=lambda at: turned[at, at + removal])
        block = feed_forward[start - 1]
        name, matrix = _last_matrix(task, block, start - 1)
        kept = np.ones(task.n_players, dtype=bool)
        kept[start : start + removal] = False
        folded = Folded(
            layer=start - 1,
            name=name,
            transposed=isinstance(matrix, Conv1D),
            bias=matrix.bias is not None,
            map=fitted(task, meter, block, start - 1, removal),
            kept=tuple(np.flatnonzero(kept).tolist()),
        )
        what = f"layers {start} to {start + removal - 1} became a matrix folded into {name}"
        chosen[removal] = Rewrite(partial(write, folded), kept, what)
    return chosen


def mean_cosines(task: Task, meter: Meter) -> np.ndarray:
    """Mean cosine of the states before layers i and j, ``(n_players + 1, n_players + 1)``."""
    total = np.zeros((task.n_players + 1, task.n_players + 1))
    for states in states_of(task, meter):
        for j in range(1, len(states)):
            for i in range(j):
                total[i, j] += cosine_similarity(states[i], states[j], dim=-1).sum().item()
    return total / task.tokens.size


def fitted(task: Task, meter: Meter, block: nn.Module, layer: int, length: int) -> Tensor:
    """The least-squares map ``T`` that stands in for the ``length`` layers after a layer.

    Args:
        task: What every rival is given.
        meter: Counts what the method runs.
        block: The feed-forward block before the run.
        layer: The layer it is in.
        length: Layers of the run.
    """
    squares: Tensor | None = None
    crossed: Tensor | None = None
    for tokens in batches(task):
        states, given = _with_output(task, block, tokens)
        meter.ran(layer_tokens=task.n_players * tokens.numel())
        # L - Y of the paper: the state after the run, less what M is added to.
        wanted = states[layer + 1 + length] - (states[layer + 1] - given)
        m, w = given.flatten(0, 1).double(), wanted.flatten(0, 1).double()
        squares = m.T @ m if squares is None else squares + m.T @ m
        crossed = m.T @ w if crossed is None else crossed + m.T @ w
    assert squares is not None and crossed is not None
    ridge = RIDGE * squares.diagonal().mean() * torch.eye(len(squares), device=squares.device)
    # Towards T = 1, no change, where the texts say nothing.
    return torch.linalg.solve(squares + ridge, crossed + ridge).float().cpu()


def _with_output(task: Task, block: nn.Module, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
    seen: list[Tensor] = []
    handle = block.register_forward_hook(lambda _, args, out: seen.append(leading(out).float()))
    try:
        return layer_states(task, tokens), seen[0]
    finally:
        handle.remove()


def _blocks(task: Task) -> tuple[nn.Module, ...]:
    try:
        return find_players(task.model, "mlp").layers
    except ModelError as error:
        raise DoesNotApply(str(error)) from error


def _last_matrix(task: Task, block: nn.Module, layer: int) -> tuple[str, "nn.Linear | Conv1D"]:
    """The matrix whose output the block returns, and the layer adds to the state as it is."""
    seen: list[tuple[nn.Module, Tensor]] = []
    matrices = [m for m in block.modules() if isinstance(m, nn.Linear | Conv1D)]
    handles = [
        m.register_forward_hook(lambda module, _, out: seen.append((module, out))) for m in matrices
    ]
    tokens = next(batches(task, 1))
    try:
        states, given = _with_output(task, block, tokens)
    finally:
        for handle in handles:
            handle.remove()
    # With the block silent: this state plus the output of the block must be the usual state.
    with patched({block: zero_output(block)}):
        without = layer_states(task, tokens)[layer + 1]
    same = [
        m
        for m, out in seen
        if out.numel() == given.numel() and torch.equal(out.float().view_as(given), given)
    ]
    if not same or not _is_sum(without, given, states[layer + 1], task.model.dtype):
        raise DoesNotApply(
            "its feed-forward block does not end in one matrix whose output is added to the state:"
            " a linear map cannot be folded into it"
        )
    names = {id(module): name for name, module in task.stack.layers[layer].named_modules()}
    matrix = same[-1]
    assert isinstance(matrix, nn.Linear | Conv1D)
    return names[id(matrix)], matrix


def _is_sum(one: Tensor, other: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    """Whether one tensor is the sum of two others, up to the rounding of a model's dtype.

    Entry by entry: where a few coordinates of the state are huge, as in most trained models, a
    share of the largest would let anything pass.
    """
    allowed = tolerance(dtype).addition * (one.abs() + other.abs()) + 1e-6
    return bool(((one + other - wanted).abs() <= allowed).all())


def write(folded: Folded, source: Source, output: Path, progress: Progress | None) -> Written:
    """Write the checkpoint without the run, its map folded into the matrix before it.

    Args:
        folded: The map, and the matrix it goes into.
        source: The checkpoint that is read.
        output: An empty folder.
        progress: Called with bytes written and bytes in all.
    """
    path = find_disk_stack(source.entries, source.config()).path
    name = f"{path}.{folded.layer}.{folded.name}"
    read: Callable[[str], Tensor] = reader(source)
    weight = read(f"{name}.weight")
    new = weight @ folded.map if folded.transposed else folded.map.T @ weight
    changes = [(f"{name}.weight", new)]
    if folded.bias:
        changes.append((f"{name}.bias", read(f"{name}.bias") @ folded.map))
    return write_changed(source, folded.kept, output, progress, changes)
