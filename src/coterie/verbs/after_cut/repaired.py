"""What a repair changed in a cut checkpoint, read for a healing that begins there."""

from transformers import PreTrainedModel

from coterie.healing.origin import HealError
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.files.tensors import read_tensor
from coterie.models.loaded.stack import Stack
from coterie.repair.changes import NewWeights
from coterie.verbs.after_cut.job import CutJob


def repaired_weights_of(job: CutJob, model: PreTrainedModel, stack: Stack) -> NewWeights:
    """The weights in which a cut checkpoint differs from the layers that it kept.

    Args:
        job: The checkpoint, repaired or not, and the model it was cut from.
        model: That model, loaded.
        stack: Its layers.

    Returns:
        By their names in the full model; nothing where it was only cut.

    Raises:
        HealError: a tensor differs that is no parameter of the loaded model.
    """
    came, cut, full = job.came, job.cut, job.full
    if not came.changed:
        return {}
    disk = find_disk_stack(full.entries, full.config())
    entries = {entry.name: entry for entry in cut.entries}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    found = {}
    for name in came.changed:
        there = disk.rename(name, came.kept)
        own = _own_name(name, disk.path, stack.path, parameters)
        if there is None or there not in entries or own is None:
            raise HealError(
                f"{name} of {cut.name!r} differs from {full.name!r} and is no weight that healing"
                " can begin with: heal the cut checkpoint as it was before"
            )
        found[own] = read_tensor(entries[there])
    return found


def _own_name(name: str, on_disk: str, path: str, parameters: set[str]) -> str | None:
    """What a tensor on disk is called in the model; None where it is no parameter."""
    inside = f"{path}{name.removeprefix(on_disk)}"
    if name.startswith(f"{on_disk}.") and inside in parameters:
        return inside
    # Outside the layers the model may have leading names more.
    return next((one for one in parameters if one == name or one.endswith(f".{name}")), None)
