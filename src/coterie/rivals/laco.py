"""LaCo: neighbouring layers are merged into one (Yang et al. 2024, arXiv:2402.11187).

A layer takes in the differences of those after it, θ_l ← θ_l + Σ_k (θ_{l+k} − θ_l), and these go.
From the top of the model downwards a merge stands if the last state stays near the full model's
(mean cosine above a threshold). The threshold is published per model and size; here it is lowered
step by step until so many layers are gone as were asked for.

The code released with the paper does something else: it subtracts from the sum it is still making,
so that all but the last difference cancel, and a merged layer has the matrices of the last layer
that it took in under its own norms. Both are here, as two rivals: the sum as written (`choose`),
and `as_released`.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cosine_similarity

from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.cutting.write import Written
from coterie.models.files.shards import Progress
from coterie.models.files.sources import Source
from coterie.models.loaded.routing import routed
from coterie.rivals._merging import Merge, Merged, last, summed
from coterie.rivals._rewriting import ReadTensor, reader, write_changed
from coterie.rivals._states import batches
from coterie.rivals.interface import Chosen, DoesNotApply, Meter, Rewrite, Task

MERGED = 4
"""Layers that become one, at most."""
INTERVAL = 2
"""Layers to step down after a merge."""
LOWEST = 1
"""The lowest layer that may take in others."""
TEXTS = 10
"""Calibration texts the cosine is taken on: the published number of sentences."""
THRESHOLDS = (*np.arange(0.95, 0.0, -0.05).round(2).tolist(), -1.0)


def choose(task: Task, meter: Meter) -> Chosen:
    """Merge by the published sum at the highest threshold at which so many layers go.

    Raises:
        DoesNotApply: The layers are not alike, or the model has no output embedding to watch.
    """
    return _choose(task, meter, summed)


def as_released(task: Task, meter: Meter) -> Chosen:
    """The same walk, merging as the released code does.

    Raises:
        DoesNotApply: As `choose`.
    """
    return _choose(task, meter, last)


def _choose(task: Task, meter: Meter, merge: Merge) -> Chosen:
    _check_alike(task)
    similar = _Similarity(task, meter)
    chosen: Chosen = {}
    for removal in task.removals:
        # Lazily: the highest threshold that reaches the size is taken, lower ones are not run.
        tries = (collapse(task, removal, t, similar, merge) for t in THRESHOLDS)
        found = next((merged for merged in tries if merged is not None), None)
        if found is None:
            meter.remarks.append(f"no merge of free neighbours removes {removal} layers")
            continue
        kept = np.zeros(task.n_players, dtype=bool)
        # A merged layer stays where it was; only those it took in are gone.
        kept[list(found.places)] = True
        what = f"{len(found.changed())} layers took in the {removal} after them"
        chosen[removal] = Rewrite(partial(write, found), kept, what)
    return chosen


def collapse(
    task: Task, removal: int, threshold: float, similar: "_Similarity", merge: Merge
) -> Merged | None:
    """The published walk from the top, or None if it removes fewer layers.

    Args:
        task: What every rival is given.
        removal: Layers that should go.
        threshold: A merge stands above this cosine.
        similar: Measures the cosine.
        merge: Merges layers: by the sum, or as the released code does.
    """
    n = task.n_players
    now = Merged.none(n)
    at = n - MERGED if n > MERGED else n - 2
    while at >= LOWEST and (left := removal - (n - len(now.places))):
        # Never more than are still to go, nor more than lie above.
        taken = min(MERGED - 1, left, len(now.places) - at - 1)
        trial = merge(now, at, taken)
        touched = now.places[at : at + 1 + taken]
        # A locked layer neither takes in others nor is taken in.
        if not np.isin(touched, task.locked).any() and similar.to_full(trial) > threshold:
            now = trial
            # After a merge the walk steps down, and again below the new end of the model.
            at = min(at - INTERVAL, len(now.places) - MERGED)
        else:
            at -= 1
    return now if n - len(now.places) == removal else None


class _Similarity:
    """Mean cosine of last states with the full model's; each merge is run once."""

    def __init__(self, task: Task, meter: Meter) -> None:
        self._task, self._meter = task, meter
        # Every merge is one run of the model: few texts keep the walk affordable.
        few = replace(task, tokens=task.tokens[:TEXTS])
        self._tokens = list(batches(few))
        self._known: dict[bytes, float] = {}
        self._full = self._ends(Merged.none(task.n_players))

    def to_full(self, merged: Merged) -> float:
        """The mean over all tokens."""
        key = merged.matrices.tobytes() + merged.vectors.tobytes()
        if key not in self._known:
            pairs = zip(self._ends(merged), self._full, strict=True)
            cosines = torch.cat([cosine_similarity(a, b, dim=-1).flatten() for a, b in pairs])
            self._known[key] = cosines.mean().item()
        return self._known[key]

    @torch.no_grad()
    def _ends(self, merged: Merged) -> list[Tensor]:
        task = self._task
        new = {
            f"{task.stack.path}.{place}.{name}": _sum(task, merged.row(i, old.ndim), name)
            for i, place in merged.changed()
            for name, old in task.stack.layers[place].named_parameters()
        }
        keep = [place in merged.places for place in range(task.n_players)]
        with routed(task.model, task.stack, keep):
            ends = [_last_state(task.model, new, tokens) for tokens in self._tokens]
        run = sum(tokens.numel() for tokens in self._tokens)
        self._meter.ran(layer_tokens=len(merged.places) * run)
        return ends


def _sum(task: Task, row: np.ndarray, name: str) -> Tensor:
    parts = [
        float(row[j]) * task.stack.layers[j].get_parameter(name).float()
        for j in np.flatnonzero(row)
    ]
    return torch.stack(parts).sum(dim=0).to(task.stack.layers[0].get_parameter(name).dtype)


def _last_state(model: nn.Module, new: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """What the output embedding is given, with some parameters standing in for the model's own."""
    seen: list[Tensor] = []

    def watch(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0].float())
        raise _Enough

    handle = model.get_output_embeddings().register_forward_pre_hook(watch)  # type: ignore
    try:
        with suppress(_Enough):
            functional_call(model, new, (), {"input_ids": tokens, "use_cache": False})
    finally:
        handle.remove()
    return seen[0]


class _Enough(Exception):
    """The last state has been seen."""


def _check_alike(task: Task) -> None:
    shapes = [
        {name: (p.shape, p.is_floating_point()) for name, p in layer.named_parameters()}
        for layer in task.stack.layers
    ]
    if any(other != shapes[0] for other in shapes):
        raise DoesNotApply("its layers are not all built alike: their weights do not add up")
    if not all(floating for _, floating in shapes[0].values()):
        raise DoesNotApply("its weights are packed: they do not add up")
    if task.model.get_output_embeddings() is None:
        raise DoesNotApply("it names no output embedding, before which its last state is read")


def write(merged: Merged, source: Source, output: Path, progress: Progress | None) -> Written:
    """Write the merged checkpoint, tensor by tensor, summed in float32.

    Args:
        merged: The layers as sums.
        source: The checkpoint that is read.
        output: An empty folder.
        progress: Called with bytes written and bytes in all.
    """
    path = find_disk_stack(source.entries, source.config()).path
    read = reader(source)
    changes = (
        (entry.name, _disk_sum(read, path, merged.row(i, len(entry.shape)), name))
        for i, place in merged.changed()
        for entry in source.entries
        if (name := entry.name.removeprefix(f"{path}.{place}.")) != entry.name
    )
    return write_changed(source, merged.places, output, progress, changes)


def _disk_sum(read: ReadTensor, path: str, row: np.ndarray, name: str) -> Tensor:
    parts = [float(row[j]) * read(f"{path}.{j}.{name}") for j in np.flatnonzero(row)]
    return torch.stack(parts).sum(dim=0)
