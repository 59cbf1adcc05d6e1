"""`repair`: what stays of a cut model is refitted in closed form to stand in for what went."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np

from coterie.engine.interface import CutProof
from coterie.errors import RepairError
from coterie.game.utilities import at_floor
from coterie.healing.origin import descent
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.models.loaded.load import default_dtype, load_model, load_tokenizer, pick_device
from coterie.models.loaded.stack import Stack, find_stack
from coterie.quantization.checkpoint import check_plain
from coterie.repair.amount import sequences_to_fit
from coterie.repair.changes import NewWeights
from coterie.repair.choose import Repaired, repaired
from coterie.repair.gaps import losses_by_gap
from coterie.repair.repairable import Repairable, WholeModel
from coterie.repair.streamed import check_streamed_repair
from coterie.repair.write import as_stored, write_repaired
from coterie.report.schema.after_cut import GapPart, GapsPart, RepairPart
from coterie.report.schema.generation import BesidePart
from coterie.verbs.after_cut.complete import completed
from coterie.verbs.after_cut.job import RepairJob
from coterie.verbs.after_cut.part import Losses, after_part
from coterie.verbs.after_cut.record import Parts, ended_with, remember
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.after_cut.repair_streamed import open_streamed, traffic_remark
from coterie.verbs.after_cut.teacher import origin_of
from coterie.verbs.after_cut.texts import healing_texts, held_out_texts
from coterie.verbs.evaluate.nearness import nearness
from coterie.verbs.outputs.finished import FinishedRun
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.records import as_read
from coterie.verbs.outputs.rehearsal import rehearse, weights_take
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.grades import graded_after
from coterie.verbs.shared.progress import NoProgress, Progress

SELECTING = 32
"""Sequences that say whether a repair helps; none of them is fitted on."""

TOLD = 8
"""Of these, sequences on which it is told what every gap gave back: one pass a gap."""

VERIFIED = 2
"""Sequences on which the reloaded checkpoint must do what was measured."""


@dataclass(frozen=True, eq=False)
class _Made:
    """What is left of the full model when it is out of memory."""

    stack: Stack
    repair: Repaired
    losses: Losses
    proof: CutProof
    by_gap: GapsPart | None
    seconds: float
    device: str


@public
def repair(
    request: RepairRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Parts:
    """Repair a cut checkpoint in closed form, without training, by the model it was cut from.

    Args:
        request: Which checkpoint, how, and on which texts.
        output: Folder for the repaired checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file in which the paths of the cut are noted; None is the user's.
        progress: Told what is going on.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the written checkpoint is not what was measured.
    """
    request.check()
    request = completed(request, store)
    progress, output = progress or NoProgress(), Path(output)
    place = OutputFolder(output, request, overwrite=overwrite)
    before = FinishedRun(place, ended=ended_with)
    job = _admit(request, progress)
    identity = as_read(job.identity())
    place.add(job.full.folder, "the teacher")
    if done := before.same(identity, progress, source=job.cut.folder):
        return done
    rehearse(place, job.cut, identity, needed=weights_take(job.cut))
    made = _made(job, progress)
    with place.written() as folder:
        progress.say(f"writing {output.name}")
        write_repaired(job.full, made.stack, job.kept, folder, made.repair.weights)
        made.proof.check(folder, trust_remote_code=request.trust_remote_code)
        written = Source(output.name, folder, None, request.trust_remote_code)
        part = after_part(
            request,
            made.losses,
            sources=(job.cut, written),
            texts=(job.training, job.held_out),
            output=output,
            device=made.device,
        )
        near = _beside(job, written, progress)
        part = replace(part, repair=_repair_part(job, made), beside=near)
        part = graded_after(part, int(text_config(job.full.config()).vocab_size))
        return remember(folder, job.cut.folder, job.record, part, identity)


def _admit(request: RepairRequest, progress: Progress) -> RepairJob:
    origin = origin_of(request)
    cut, full, record = origin.cut, origin.full, origin.record
    check_plain(full)
    if request.stream:
        check_streamed_repair(full)
    came = descent(cut, full)
    progress.say(f"reading texts for {cut.name}")
    tokenizer = load_tokenizer(full)
    judges = held_out_texts(request, record, full.name, full, tokenizer)
    wanted = request.sequences or sequences_to_fit(
        text_config(full.config()), judges.length, pick_device(request.device).type
    )
    texts = healing_texts(
        request.text,
        full.name,
        tokenizer,
        judges,
        sequences=wanted + SELECTING,
        seed=request.seed,
    )
    aside = min(SELECTING, texts.n_sequences // 2)
    if not aside:
        raise RepairError(
            "the text gives a single sequence, and one to fit on and one to select by are needed:"
            " give more text (--text)"
        )
    rows = np.arange(texts.n_sequences)
    fit, select = texts.some(rows[:-aside][:wanted]), texts.some(rows[-aside:])
    return RepairJob(
        request=request,
        cut=cut,
        full=full,
        came=came,
        record=record,
        training=fit,
        selection=select,
        held_out=judges,
    )


def _made(job: RepairJob, progress: Progress) -> _Made:
    request, began = job.request, monotonic()
    progress.say(f"repairing {job.cut.name}")
    whole = _opened(job, progress)
    stack, texts = whole.stack, (job.training.tokens, job.selection.tokens)
    found = repaired(whole, job.kept, texts, request.method)
    for remark in found.remarks:
        progress.say(remark)
    # What is judged is what will be read back: rounded as it is written.
    weights = as_stored(job.full, stack, found.weights)
    everyone, tokens = range(stack.n_players), job.held_out.tokens
    losses = {
        "full": whole.losses(everyone, tokens, {}),
        "before": whole.losses(job.kept, tokens, {}),
        "after": whole.losses(job.kept, tokens, weights),
    }
    # Read from disk, every gap would take all layers once more.
    by_gap = _by_gap(job, whole, weights) if weights and whole.traffic is None else None
    vocabulary = int(text_config(job.full.config()).vocab_size)
    proof = whole.proof(job.kept, job.training.tokens[:VERIFIED], weights)
    if whole.traffic is not None:
        read = traffic_remark(whole.traffic, whole.pass_bytes)
        found = replace(found, remarks=(*found.remarks, read))
    return _Made(
        stack=Stack(stack.path, (), stack.locks),
        repair=replace(found, weights=weights),
        losses={name: (loss, at_floor(loss, vocabulary)) for name, loss in losses.items()},
        proof=proof,
        by_gap=by_gap,
        seconds=monotonic() - began,
        device=str(whole.device),
    )


def _opened(job: RepairJob, progress: Progress) -> Repairable:
    """The full model, in memory or to be read layer by layer."""
    device = pick_device(job.request.device)
    dtype = default_dtype(device)[0]
    if job.request.stream:
        return open_streamed(job, dtype, device, progress)
    model = load_model(job.full, dtype=dtype, device=device)
    return WholeModel(model, find_stack(model))


def _by_gap(job: RepairJob, whole: Repairable, weights: NewWeights) -> GapsPart:
    tokens = job.selection.tokens[:TOLD]
    as_cut, gains = losses_by_gap(whole, job.kept, tokens, weights)
    return GapsPart(
        sequences=len(tokens),
        as_cut=as_cut,
        gaps=[GapPart(list(one.gone), one.loss) for one in gains],
    )


def _beside(job: RepairJob, written: Source, progress: Progress) -> BesidePart | None:
    """The repaired checkpoint held against the full model; None where neither is ever whole."""
    if job.request.stream:
        return None
    progress.say("letting the full and the repaired model write")
    device = pick_device(job.request.device)
    dtype = default_dtype(device)[0]
    opened, tokenizer = partial(load_model, dtype=dtype, device=device), load_tokenizer(job.full)
    return nearness(
        "full", partial(opened, job.full), partial(opened, written), job.held_out, tokenizer
    )


def _repair_part(job: RepairJob, made: _Made) -> RepairPart:
    found = made.repair
    return RepairPart(
        name=found.name,
        selection_sequences=job.selection.n_sequences,
        as_cut=float(found.loss.mean()),
        tried={name: float(losses.mean()) for name, losses in found.losses.items()},
        changed=len(found.weights),
        seconds=made.seconds,
        remarks=list(found.remarks),
        by_gap=made.by_gap,
    )
