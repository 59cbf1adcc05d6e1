"""`repair --stream`: the full model is read from disk, and what that takes is told beforehand."""

import torch

from coterie.engine.interface import DiskTraffic
from coterie.engine.memory import free_bytes
from coterie.models.families.fields import text_config
from coterie.repair.amount import SUMS, RepairBytes, columns_of
from coterie.repair.choose import names_of
from coterie.repair.gaps import turns
from coterie.repair.streamed import StreamedModel
from coterie.repair.table import REPAIRS
from coterie.repair.walk import STATES
from coterie.report.words import size
from coterie.verbs.after_cut.job import RepairJob
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.progress import Progress


def open_streamed(
    job: RepairJob, dtype: torch.dtype, device: torch.device, progress: Progress
) -> StreamedModel:
    """Open the full model to be read layer by layer, and say what the repair will take.

    Args:
        job: The cut, the full model and the texts.
        dtype: What to compute in.
        device: Where to compute.
        progress: Told.

    Raises:
        ModelError: it cannot be read layer by layer.
    """
    progress.say(f"opening {job.full.name} in {name_of(dtype)}, to be streamed")
    whole = StreamedModel(job.full, job.selection.tokens, dtype=dtype, device=device)
    needed = bytes_needed(job, whole)
    progress.say(
        f"streaming: a pass reads {size(whole.pass_bytes)} of layers; in memory, at most,"
        f" {size(needed.weights)} of weights, {size(needed.states)} of states and"
        f" {size(needed.sums)} of sums; up to {size(needed.files)} of changed weights in temporary"
        " files"
    )
    free = free_bytes(device)
    if needed.memory > free:
        progress.say(
            f"warning: the repair takes up to {size(needed.memory)} and {device} has {size(free)}"
            " free: fewer --sequences make the states smaller, --method map the sums"
        )
    return whole


def bytes_needed(job: RepairJob, whole: StreamedModel) -> RepairBytes:
    """What the repair of a job takes at most, from shapes alone.

    Args:
        job: The cut and the texts.
        whole: The full model, opened.
    """
    config, weights = text_config(whole.model.config), whole.weights
    judged = (job.training, job.selection, job.held_out)
    names = names_of(job.request.method, whole.device.type)
    # Layers are refitted before a gap and behind one; a repair that ends with more, all of them.
    passed_again = any(REPAIRS[name].finish is not None for name in names)
    changed = [
        turn.layer
        for turn in turns(job.kept, whole.stack.n_players)
        if turn.gap or turn.behind or passed_again
    ]
    tokens = max(texts.tokens.size for texts in judged)
    itemsize = max(weights.last_dtype.itemsize, whole.model.dtype.itemsize)
    return RepairBytes(
        weights=weights.opening_bytes,
        states=STATES * tokens * int(config.hidden_size) * itemsize,
        sums=SUMS * columns_of(config) ** 2 * torch.float64.itemsize,
        files=len(names) * sum(whole.writer_bytes(layer) for layer in changed),
    )


def traffic_remark(traffic: DiskTraffic, pass_bytes: int) -> str:
    """What reading from disk came to, in one phrase.

    Args:
        traffic: What was read.
        pass_bytes: Bytes of all layers.
    """
    return (
        f"streamed: {size(traffic.bytes_read)} read, {traffic.bytes_read / pass_bytes:.1f} times"
        f" all layers; checked {traffic.checked}"
    )
