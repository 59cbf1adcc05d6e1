"""A repaired checkpoint: the cut one, with the tensors that the repair changed."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from coterie.errors import RepairError
from coterie.models.cutting.layer_names import DiskStack, find_disk_stack
from coterie.models.cutting.write import Written
from coterie.models.files.shards import DTYPES, Progress
from coterie.models.files.sources import Source
from coterie.models.files.tensors import Entry
from coterie.models.loaded.stack import Stack
from coterie.repair.changes import NewWeights
from coterie.rivals._rewriting import write_changed


def write_repaired(
    source: Source,
    stack: Stack,
    kept: Sequence[int],
    output: Path,
    weights: NewWeights,
    progress: Progress | None = None,
) -> Written:
    """Write the checkpoint of the kept layers with the changed weights, in the source's dtype.

    Args:
        source: From `resolve`.
        stack: The layers of the model that was repaired.
        kept: The layers that stay.
        output: An empty folder; half-written after an error.
        weights: Changed weights by their names in the full model.
        progress: Called with bytes written and bytes in all.

    Raises:
        RepairError: A changed weight is not a plain tensor of the source.
    """
    changes = on_disk(source, stack, weights)
    return write_changed(source, kept, output, progress, changes.items())


def as_stored(source: Source, stack: Stack, weights: NewWeights) -> NewWeights:
    """The same weights, each rounded, where it lies, to the dtype it will have on disk.

    Args:
        source: The full model's files.
        stack: Its whole layers.
        weights: Changed parameters by their names in the full model.

    Raises:
        RepairError: A changed weight is not a plain tensor of the source.
    """
    dtypes = {entry.name: DTYPES[entry.dtype] for entry in _plain(source)}
    disk = find_disk_stack(source.entries, source.config())
    return {
        name: tensor.copy_(tensor.to(dtypes[_disk_name(source, stack, disk, name)]))
        for name, tensor in weights.items()
    }


def on_disk(source: Source, stack: Stack, weights: NewWeights) -> dict[str, Tensor]:
    """Changed weights by their names in the source's files.

    Args:
        source: The full model's files.
        stack: Its whole layers.
        weights: Changed parameters by their names in the full model.

    Raises:
        RepairError: A changed weight is not a plain tensor of the source.
    """
    disk = find_disk_stack(source.entries, source.config())
    return {_disk_name(source, stack, disk, name): tensor for name, tensor in weights.items()}


def _disk_name(source: Source, stack: Stack, disk: DiskStack, name: str) -> str:
    """What a parameter is called on disk: the path of the layers may differ from the model's."""
    there = {entry.name for entry in _plain(source)}
    inside = f"{disk.path}{name.removeprefix(stack.path)}"
    if name.startswith(f"{stack.path}.") and inside in there:
        return inside
    # Outside the layers: as it is, or with as many leading names fewer as it takes.
    parts = name.split(".")
    outside = [".".join(parts[start:]) for start in range(len(parts) - 1)]
    found = next((one for one in outside if one in there), None)
    if found is None or name.startswith(f"{stack.path}."):
        raise RepairError(
            f"{source.name!r} does not hold {name} as plain floating-point numbers, so that it"
            " cannot be repaired: repair before quantizing, or leave it (--repair none)"
        )
    return found


def _plain(source: Source) -> list[Entry]:
    return [entry for entry in source.entries if entry.dtype in DTYPES]
