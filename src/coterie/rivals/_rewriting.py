"""Checkpoints with some new tensors: cut by copying bytes, then overwritten one at a time."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from torch import Tensor

from coterie.errors import ModelError
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.cutting.write import Written, write_cut
from coterie.models.files.shards import DTYPES, Progress, write_over
from coterie.models.files.sources import Source, weight_files
from coterie.models.files.tensors import read_header, read_tensor

ReadTensor = Callable[[str], Tensor]
"""Gives a tensor of the source by its name on disk, in float32."""


def reader(source: Source) -> ReadTensor:
    """Read single tensors of a checkpoint.

    Raises:
        ModelError: From the function that is returned: no such tensor, or it is packed.
    """
    entries = {entry.name: entry for entry in source.entries}

    def read(name: str) -> Tensor:
        entry = entries.get(name)
        if entry is None or entry.dtype not in DTYPES:
            state = "missing" if entry is None else f"stored as {entry.dtype}"
            raise ModelError(
                f"{source.name!r} cannot be rewritten: its tensor {name} is {state}, and it takes"
                " plain floating-point weights"
            )
        return read_tensor(entry).float()

    return read


def write_changed(
    source: Source,
    kept: Sequence[int],
    output: Path,
    progress: Progress | None,
    changes: Iterable[tuple[str, Tensor]],
) -> Written:
    """Write the checkpoint of some layers, with some of their tensors changed.

    Args:
        source: The checkpoint that is read, from `resolve`.
        kept: The layers that stay.
        output: An empty folder; half-written after an error.
        progress: Called with bytes written and bytes in all.
        changes: New tensors under their names in the source, of equal shape; taken one by one.
    """
    # First the plain cut, whose bytes are copied: what is not changed is exact.
    written = write_cut(source, kept, output, progress=progress)
    stack = find_disk_stack(source.entries, source.config())
    headers = [read_header(file) for file in weight_files(output)]
    entries = {entry.name: entry for header in headers for entry in header.entries}
    for name, tensor in changes:
        # A cut renumbers the layers after it; changes come under the numbers of the source.
        new = stack.rename(name, tuple(sorted(kept)))
        entry = entries[new] if new is not None else None
        if entry is None or tuple(tensor.shape) != entry.shape:
            raise ModelError(
                f"the tensor {name} cannot be changed: it was cut, or has another shape"
            )
        write_over(entry.file, entry, tensor)
    return written
