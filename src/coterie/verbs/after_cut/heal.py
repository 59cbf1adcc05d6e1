"""`heal`: a cut checkpoint learns from the model it was cut from, and is written anew."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from coterie.game.coalitions import Vector
from coterie.healing.checkpoint import Checkpoint
from coterie.healing.origin import descent
from coterie.healing.several import own_device, processes
from coterie.healing.write import check_written, write_healed
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_model, load_tokenizer, pick_device
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import Tokens
from coterie.verbs.after_cut.complete import completed
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.job import HealJob
from coterie.verbs.after_cut.learning import distilled
from coterie.verbs.after_cut.part import after_part
from coterie.verbs.after_cut.record import Parts, ended_with, remember
from coterie.verbs.after_cut.teacher import origin_of
from coterie.verbs.after_cut.teaching import check_teacher_at, healing_dtype
from coterie.verbs.after_cut.texts import healing_texts, held_out_texts, watched_texts
from coterie.verbs.evaluate.nearness import nearness
from coterie.verbs.outputs.exchange import beside
from coterie.verbs.outputs.finished import FinishedRun
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.records import as_read
from coterie.verbs.outputs.rehearsal import rehearse, weights_take
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.grades import graded_after
from coterie.verbs.shared.progress import NoProgress, Progress

STATE = "healing.safetensors"
"""What has been learned so far, beside the output."""


@public
def heal(
    request: HealRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Parts:
    """Heal a cut checkpoint by short distillation from the model it was cut from.

    Stopped at any moment, the same call goes on from what was learned.

    >>> from coterie import CutRequest, HealRequest, cut, heal
    >>> done = cut(CutRequest("reference", layers=(3, 7)), output=folder / "cut")
    >>> asked = HealRequest(str(folder / "cut"), mode="full", steps=1, batch=1)
    >>> heal(asked, output=folder / "healed").part.learning.steps
    1

    Args:
        output: Folder for the healed checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file in which the paths of the cut are noted; None is the user's.
        request: Which checkpoint, and how it learns.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the written checkpoint is not what was learned.
    """
    request.check()
    request = completed(request, store)
    progress, output = progress or NoProgress(), Path(output)
    place = OutputFolder(output, request, overwrite=overwrite, working=(STATE,))
    before = FinishedRun(place, ended=ended_with)
    job = admit(request, progress)
    identity = as_read(job.identity())
    place.add(job.full.folder, "the teacher")
    if done := before.same(identity, progress, source=job.cut.folder):
        return done
    rehearse(place, job.cut, identity, needed=weights_take(job.cut))
    # What has been learned lies beside the output, so that a stopped run finds it again.
    state = beside(place.place, STATE)
    (checkpoint := Checkpoint(state, identity)).check()
    check_teacher_at(job, output)
    part = _heal(job, place, checkpoint, progress)
    # Only now: until the output is in place, this file is all there is.
    state.unlink(missing_ok=True)
    return part


def admit(request: HealRequest, progress: Progress) -> HealJob:
    """What is healed, from what and on which texts, before a weight is loaded.

    Raises:
        UserError: one of them cannot be used, in one line.
    """
    origin = origin_of(request)
    cut, full, record = origin.cut, origin.full, origin.record
    came = descent(cut, full)
    progress.say(f"reading texts for {cut.name}")
    tokenizer = load_tokenizer(full)
    # What judges comes first: what is learned from must not contain it.
    held_out = held_out_texts(request, record, full.name, full, tokenizer)
    training = healing_texts(
        request.text,
        full.name,
        tokenizer,
        held_out,
        sequences=request.steps * request.batch,
        seed=request.seed,
    )
    return HealJob(
        request=request,
        cut=cut,
        full=full,
        came=came,
        record=record,
        training=training,
        held_out=held_out,
        watched=watched_texts(request.watch, tokenizer, held_out=held_out, training=training),
    )


def _heal(
    job: HealJob,
    place: OutputFolder,
    checkpoint: Checkpoint,
    progress: Progress,
) -> Parts:
    request, output = job.request, place.path
    device = pick_device(own_device(request.device))
    dtype, tokens = healing_dtype(job, device), job.held_out.tokens
    # The cut model is judged and freed before student and teacher are loaded.
    losses = {"before": _judged(job.cut, dtype, device, tokens)}
    learned = distilled(job, device, checkpoint, progress)
    if not processes().writes:
        # Started beside others by accelerate: the main process has the same weights, and writes.
        raise SystemExit(0)
    losses["full"] = learned.full
    with place.written() as folder:
        progress.say(f"writing {output.name}")
        write_healed(job.cut, learned.weights, learned.path, learned.kept, folder)
        healed = Source(output.name, folder, None, request.trust_remote_code)
        losses["after"] = _judged(healed, dtype, device, tokens)
        # A loss that differs when read back means that something was written wrongly.
        check_written(output.name, learned.in_memory, float(losses["after"][0].mean()))
        part = after_part(
            request,
            losses,
            sources=(job.cut, healed),
            texts=(job.training, job.held_out),
            output=output,
            device=str(device),
        )
        progress.say("letting the full and the healed model write")
        first, second = (
            partial(load_model, one, dtype=dtype, device=device) for one in (job.full, healed)
        )
        near = nearness("full", first, second, job.held_out, load_tokenizer(job.full))
        part = replace(part, learning=learned.part, beside=near)
        part = graded_after(part, int(text_config(job.full.config()).vocab_size))
        return remember(folder, job.cut.folder, job.record, part, checkpoint.identity)


def _judged(
    source: Source, dtype: torch.dtype, device: torch.device, tokens: Tokens
) -> tuple[Vector, int]:
    return floored_losses(load_model(source, dtype=dtype, device=device), tokens)
