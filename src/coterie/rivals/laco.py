"""LaCo: neighbouring layers are merged into one (Yang et al. 2024, arXiv:2402.11187).

A layer takes in the differences of those after it, θ_l ← θ_l + Σ_k (θ_{l+k} − θ_l), and these go.
From the top of the model downwards a merge stands if the last state stays near the full model's
(mean cosine above a threshold). The threshold is published per model and size; here it is lowered
step by step until so many layers are gone as were asked for.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cosine_similarity

from coterie.game.coalitions import Matrix
from coterie.models.disk_names import find_disk_stack
from coterie.models.routing import routed
from coterie.models.shards import Progress
from coterie.models.sources import Source
from coterie.models.streaming import Written
from coterie.rivals.interface import Chosen, DoesNotApply, Meter, Rewrite, Task
from coterie.rivals.rewriting import ReadTensor, reader, write_changed
from coterie.rivals.states import batches

MERGED = 4
"""Layers that become one, at most."""
INTERVAL = 2
"""Layers to step down after a merge."""
LOWEST = 1
"""The lowest layer that may take in others."""
TEXTS = 10
"""Calibration texts the cosine is taken on: the published number of sentences."""
THRESHOLDS = (*np.arange(0.95, 0.0, -0.05).round(2).tolist(), -1.0)


@dataclass(frozen=True, eq=False)
class Merged:
    """Layers as sums of the full model's.

    Attributes:
        rows: ``(n_left, n_layers)``: each layer left is Σ rows[·, j] θ_j.
        places: The layer each of them was.
    """

    rows: Matrix
    places: tuple[int, ...]

    def merge(self, at: int, taken: int) -> "Merged":
        """Layer number ``at`` takes in the ``taken`` after it."""
        after = slice(at + 1, at + 1 + taken)
        rows = self.rows.copy()
        rows[at] += (rows[after] - rows[at]).sum(axis=0)
        gone = range(at + 1, at + 1 + taken)
        places = tuple(place for i, place in enumerate(self.places) if i not in gone)
        return Merged(np.delete(rows, gone, axis=0), places)

    def changed(self) -> list[tuple[int, np.ndarray]]:
        """Layers that are no longer their own, and their sums."""
        unit = np.eye(self.rows.shape[1])
        pairs = zip(self.places, self.rows, strict=True)
        return [(place, row) for place, row in pairs if not np.array_equal(row, unit[place])]


def choose(task: Task, meter: Meter) -> Chosen:
    """Merge at the highest threshold at which so many layers go.

    Raises:
        DoesNotApply: The layers are not alike, or the model has no output embedding to watch.
    """
    _check_alike(task)
    similar = _Similarity(task, meter)
    chosen: Chosen = {}
    for removal in task.removals:
        tries = (collapse(task, removal, t, similar) for t in THRESHOLDS)
        found = next((merged for merged in tries if merged is not None), None)
        if found is None:
            meter.remarks.append(f"no merge of free neighbours removes {removal} layers")
            continue
        kept = np.zeros(task.n_players, dtype=bool)
        kept[list(found.places)] = True
        what = f"{len(found.changed())} layers took in the {removal} after them"
        chosen[removal] = Rewrite(partial(write, found), kept, what)
    return chosen


def collapse(task: Task, removal: int, threshold: float, similar: "_Similarity") -> Merged | None:
    """The published walk from the top, or None if it removes fewer layers."""
    n = task.n_players
    now = Merged(np.eye(n), tuple(range(n)))
    at = n - MERGED if n > MERGED else n - 2
    while at >= LOWEST and (left := removal - (n - len(now.places))):
        taken = min(MERGED - 1, left, len(now.places) - at - 1)
        trial = now.merge(at, taken)
        touched = now.places[at : at + 1 + taken]
        if not np.isin(touched, task.locked).any() and similar.to_full(trial) > threshold:
            now = trial
            at = min(at - INTERVAL, len(now.places) - MERGED)
        else:
            at -= 1
    return now if n - len(now.places) == removal else None


class _Similarity:
    """Mean cosine of last states with the full model's; each merge is run once."""

    def __init__(self, task: Task, meter: Meter) -> None:
        self._task, self._meter = task, meter
        few = replace(task, tokens=task.tokens[:TEXTS])
        self._tokens = list(batches(few))
        self._known: dict[bytes, float] = {}
        n = task.n_players
        self._full = self._ends(Merged(np.eye(n), tuple(range(n))))

    def to_full(self, merged: Merged) -> float:
        """The mean over all tokens."""
        key = merged.rows.tobytes()
        if key not in self._known:
            pairs = zip(self._ends(merged), self._full, strict=True)
            cosines = torch.cat([cosine_similarity(a, b, dim=-1).flatten() for a, b in pairs])
            self._known[key] = cosines.mean().item()
        return self._known[key]

    @torch.no_grad()
    def _ends(self, merged: Merged) -> list[Tensor]:
        task = self._task
        new = {
            f"{task.stack.path}.{place}.{name}": _sum(task, row, name)
            for place, row in merged.changed()
            for name, _ in task.stack.layers[place].named_parameters()
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
    """Write the merged checkpoint, tensor by tensor, summed in float32."""
    path = find_disk_stack(source.entries, source.config()).path
    read = reader(source)
    changes = (
        (entry.name, _disk_sum(read, path, row, entry.name.removeprefix(f"{path}.{place}.")))
        for place, row in merged.changed()
        for entry in source.entries
        if entry.name.startswith(f"{path}.{place}.")
    )
    return write_changed(source, merged.places, output, progress, changes)


def _disk_sum(read: ReadTensor, path: str, row: np.ndarray, name: str) -> Tensor:
    parts = [float(row[j]) * read(f"{path}.{j}.{name}") for j in np.flatnonzero(row)]
    return torch.stack(parts).sum(dim=0)
