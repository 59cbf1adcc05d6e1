"""`heal`: a cut checkpoint learns from the model it was cut from, and is written anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from coterie.game.coalitions import Vector
from coterie.healing.checkpoint import Checkpoint
from coterie.healing.distill import Learned, TrainingPlan, learn
from coterie.healing.modes import MODES
from coterie.healing.origin import kept_players
from coterie.healing.students import Student
from coterie.healing.write import check_written, write_healed
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_model, load_tokenizer, pick_device, resolve
from coterie.quantization.checkpoint import check_plain
from coterie.report.schema.after_cut import AfterPart, LearningPart
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import Tokens
from coterie.verbs.after_cut.heal_job import HealJob
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.record import Parts, ended_with, remember
from coterie.verbs.after_cut.teacher import teacher_of
from coterie.verbs.after_cut.teaching import (
    TeacherAndStudent,
    check_cache,
    healing_dtype,
    open_student_and_teacher,
)
from coterie.verbs.after_cut.texts import healing_texts, held_out_texts
from coterie.verbs.shared.exchange import beside
from coterie.verbs.shared.finished import FinishedRun
from coterie.verbs.shared.output import as_read, read_record
from coterie.verbs.shared.place import OutputFolder
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.provenance import machine, versions
from coterie.verbs.shared.verdict import difference, n_bytes, perplexity, recovered

STATE = "healing.safetensors"
"""What has been learned so far, beside the output."""

_WIDTH = 160
"""Width of the reference model: rates fall with the width beyond it."""


def heal(
    request: HealRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
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
        request: Which checkpoint, and how it learns.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the written checkpoint is not what was learned.
    """
    request.check()
    progress, output = progress or NoProgress(), Path(output)
    place = OutputFolder(output, request, overwrite=overwrite, working=(STATE,))
    before = FinishedRun(place, ended=ended_with)

    # What is healed, and from what: known before a weight is loaded.
    job = _admit(request, progress)
    identity = as_read(job.identity())

    # Done already: the checkpoint that is there answers.
    place.add(job.full.folder, "the teacher")
    if done := before.same(identity, progress, source=job.cut.folder):
        return done

    # What has been learned lies beside the output, so that a stopped run finds it again.
    state = beside(place.place, STATE)
    checkpoint = Checkpoint(state, identity)
    checkpoint.check()
    check_cache(job, output)
    part = _heal(job, place, checkpoint, progress)
    # Only now: until the output is in place, this file is all there is.
    state.unlink(missing_ok=True)
    return part


def _admit(request: HealRequest, progress: Progress) -> HealJob:
    cut = resolve(request.model, trust_remote_code=request.trust_remote_code)
    check_plain(cut)
    record = read_record(cut.folder)
    # The teacher is read from the record only where no other is named.
    teacher, revision = teacher_of(request.teacher, request.revision, record, cut)
    full = resolve(teacher, revision, trust_remote_code=request.trust_remote_code)
    kept = kept_players(cut, full)
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
        kept=kept,
        record=record,
        training=training,
        held_out=held_out,
    )


def _heal(
    job: HealJob,
    place: OutputFolder,
    checkpoint: Checkpoint,
    progress: Progress,
) -> Parts:
    request, output = job.request, place.path
    device = pick_device(request.device)
    dtype, tokens = healing_dtype(job, device), job.held_out.tokens
    # The cut model is judged and freed before student and teacher are loaded.
    losses = {"before": _judged(job.cut, dtype, device, tokens)}
    learned = _learned(job, device, checkpoint, progress)
    losses["full"] = learned.full
    with place.written() as folder:
        progress.say(f"writing {output.name}")
        write_healed(job.cut, learned.weights, learned.path, learned.kept, folder)
        healed = Source(output.name, folder, None, request.trust_remote_code)
        losses["after"] = _judged(healed, dtype, device, tokens)
        # A loss that differs when read back means that something was written wrongly.
        check_written(output.name, learned.in_memory, float(losses["after"][0].mean()))
        part = _part(
            job,
            losses,
            healed=healed,
            learning=learned.learning,
            output=output,
            device=str(device),
        )
        return remember(folder, job.cut.folder, job.record, part, checkpoint.identity)


@dataclass(frozen=True, eq=False)
class _Learned:
    """What is left of a student and its teacher when both are out of memory.

    Attributes:
        weights: What was learned, by name in the model that learned.
        path: The stack of that model, and the players of it that make the healed one.
        in_memory: Mean loss of the student on what judges, nats per token.
        full: Losses of the full model, and how many were no number.
    """

    weights: dict[str, Tensor]
    path: str
    kept: tuple[int, ...]
    in_memory: float
    full: tuple[Vector, int]
    learning: LearningPart


def _learned(
    job: HealJob,
    device: torch.device,
    checkpoint: Checkpoint,
    progress: Progress,
) -> _Learned:
    pair, plan = open_student_and_teacher(job, device, progress), _plan(job)
    student = pair.student

    def step(done: int, total: int) -> None:
        progress.step("healing", done, total)

    tokens = job.training.tokens
    learned = learn(student, pair.teacher, tokens, plan, checkpoint=checkpoint, step=step)
    return _Learned(
        weights=student.merged(),
        path=student.stack.path,
        kept=student.kept,
        in_memory=_in_memory(student, job.held_out.tokens),
        full=pair.full,
        learning=_learning(job.request, plan, learned, pair),
    )


def _plan(job: HealJob) -> TrainingPlan:
    request = job.request
    # Rates are measured at one width; wider models take less (as in arXiv:2203.03466).
    width = int(getattr(text_config(job.full.config()), "hidden_size", _WIDTH))
    rate = request.learning_rate or MODES[request.mode].learning_rate * min(1.0, _WIDTH / width)
    return TrainingPlan(
        steps=request.steps,
        batch=request.batch,
        learning_rate=rate,
        gaps=request.seams,
        minutes=request.minutes,
        seed=request.seed,
    )


def _judged(
    source: Source, dtype: torch.dtype, device: torch.device, tokens: Tokens
) -> tuple[Vector, int]:
    return floored_losses(load_model(source, dtype=dtype, device=device), tokens)


def _in_memory(student: Student, tokens: Tokens) -> float:
    """Mean loss of the student as it stands, nats per token."""
    with student.alone():
        return float(floored_losses(student.model, tokens, predict=student.predict)[0].mean())


def _learning(
    request: HealRequest, plan: TrainingPlan, learned: Learned, pair: TeacherAndStudent
) -> LearningPart:
    return LearningPart(
        mode=request.mode,
        rank=request.rank if MODES[request.mode].adapters else None,
        learning_rate=plan.learning_rate,
        seams=plan.gaps,
        batch=plan.batch,
        steps=learned.steps,
        steps_asked=plan.steps,
        tokens=learned.tokens,
        seconds=learned.seconds,
        trained_parameters=sum(one.numel() for one in pair.student.trained.values()),
        kl_first=learned.kl[0],
        kl_last=learned.kl[1],
        cache=pair.cache,
    )


def _part(
    job: HealJob,
    losses: Mapping[str, tuple[Vector, int]],
    *,
    healed: Source,
    learning: LearningPart,
    output: Path,
    device: str,
) -> AfterPart:
    full, before, after = (losses[name][0] for name in ("full", "before", "after"))
    documents = job.held_out.documents
    return AfterPart(
        what="heal",
        command=job.request.command(output),
        settings=job.request.as_json(),
        text=text_part(job.training),
        held_out=text_part(job.held_out),
        full=perplexity(full, documents),
        before=perplexity(before, documents),
        after=perplexity(after, documents),
        difference=difference(before, after, job.held_out),
        recovered=recovered(full, before, after),
        learning=learning,
        bytes_before=n_bytes(job.cut),
        bytes_after=n_bytes(healed),
        not_finite=sum(bad for _, bad in losses.values()),
        versions=versions(),
        machine=machine(torch.get_num_threads(), device),
    )
