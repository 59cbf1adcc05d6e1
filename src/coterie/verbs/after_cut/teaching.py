"""Teacher and student: kept layers beside the full model, or the cut model by itself."""

import gc
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from coterie.engine.memory import free_bytes
from coterie.game.coalitions import Vector
from coterie.healing.gap_states import gaps
from coterie.healing.modes import MODES, HealMode
from coterie.healing.origin import HealError
from coterie.healing.recompute import recompute_layers
from coterie.healing.several import main_alone, processes
from coterie.healing.students import Student
from coterie.healing.teacher_cache import TOP, Predictions
from coterie.healing.teachers import LiveTeacher, Teacher
from coterie.models.loaded.load import default_dtype, load_model, pick_device
from coterie.models.loaded.stack import find_stack
from coterie.report.schema.after_cut import CachePart
from coterie.report.words import size
from coterie.scores.sequence_losses import floored_losses
from coterie.verbs.after_cut.job import HealJob
from coterie.verbs.after_cut.repaired import repaired_weights_of
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.provenance import versions


@dataclass(frozen=True, eq=False)
class TeacherAndStudent:
    """What learns, and whoever teaches it.

    Attributes:
        full: The full model's losses on what judges, and how many were no number.
        cache: What a teacher in files keeps.
    """

    student: Student
    teacher: Teacher
    full: tuple[Vector, int]
    cache: CachePart | None = None


def healing_dtype(job: HealJob, device: torch.device) -> torch.dtype:
    """What weights are held in: those that move by small steps need float32."""
    if not MODES[job.request.mode].adapters or job.request.dtype == "float32":
        return torch.float32
    return torch.bfloat16 if job.request.dtype == "bfloat16" else default_dtype(device)[0]


def check_teacher_at(job: HealJob, output: Path) -> None:
    """Refuse a cache of something else, and a teacher that has no room, before anything is loaded.

    Raises:
        UserError: one clear line.
    """
    check_cache(job, output)
    check_room_for_teacher(job, pick_device(job.request.device))


def check_room_for_teacher(job: HealJob, device: torch.device) -> None:
    """Refuse a teacher that has no room in memory, before anything is loaded.

    Raises:
        HealError: one line.
    """
    predictions = _predictions(job)
    if predictions is not None and predictions.complete:
        return
    n_values = sum(entry.n_values for entry in job.full.entries)
    needed, free = n_values * healing_dtype(job, device).itemsize, free_bytes(device)
    if needed > free:
        raise HealError(
            f"the teacher {job.full.name!r} takes {size(needed)}, and {device} has {size(free)}"
            " free: take another --device, or a --teacher-cache that was made where it fits"
        )


def mode_of(job: HealJob) -> HealMode:
    """The mode that is asked for, with as many of the last layers as are asked for."""
    return replace(MODES[job.request.mode], layers=job.request.last)


def check_cache(job: HealJob, output: Path) -> None:
    """Refuse a cache of something else, or one in a place that is taken, before anything is loaded.

    Raises:
        UserError: one clear line.
    """
    predictions = _predictions(job)
    if predictions is None:
        return
    place = predictions.folder.resolve()
    # Either inside the other: a checkpoint is renamed into place as a whole folder.
    for what, taken in (("--output", output), ("the model", job.cut.folder)):
        other = taken.resolve()
        if place == other or place in other.parents or other in place.parents:
            raise HealError(
                f"--teacher-cache {predictions.folder} overlaps the folder of {what}: name another"
            )
    # Its own folder, so what lies in it must be these predictions or nothing.
    predictions.check()


def open_student_and_teacher(
    job: HealJob, device: torch.device, progress: Progress
) -> TeacherAndStudent:
    """Load what learns, and whoever teaches it; never the full model and the cut one together.

    Args:
        job: What is healed.
        device: Device that both run on.
        progress: Shows what is being done.
    """
    predictions, request = _predictions(job), job.request
    if predictions is not None:
        return _by_cache(job, predictions, device, progress)
    progress.say(f"loading {job.full.name} once, to teach and to learn")
    model = load_model(job.full, dtype=healing_dtype(job, device), device=device)
    stack = find_stack(model)
    mode = mode_of(job)
    # One model is both: all its layers teach, the kept ones learn.
    repaired = repaired_weights_of(job, model, stack)
    student = mode.beside(
        model, stack, job.kept, rank=request.rank, seed=request.seed, repaired=repaired
    )
    full = floored_losses(model, job.held_out.tokens)
    if request.recompute:
        recompute_layers(student)
    return TeacherAndStudent(
        student, LiveTeacher(student, gaps(job.kept) if request.seams else ()), full
    )


def _by_cache(
    job: HealJob, predictions: Predictions, device: torch.device, progress: Progress
) -> TeacherAndStudent:
    dtype, request = healing_dtype(job, device), job.request

    def step(done: int, total: int) -> None:
        progress.step("asking the teacher", done, total)

    def ask() -> None:
        progress.say(f"loading {job.full.name} once, to teach")
        model = load_model(job.full, dtype=dtype, device=device)
        predictions.fill(model, job.training.tokens, job.held_out.tokens, step)
        # The full model goes before the cut one comes: that is what the cache is for.
        del model
        gc.collect()

    # Of several processes one writes the files, which all read.
    main_alone(processes(), lambda: predictions.complete, ask)
    progress.say(f"loading {job.cut.name}, to learn")
    cut = load_model(job.cut, dtype=dtype, device=device)
    stack = find_stack(cut)
    student = mode_of(job).alone(cut, stack, job.kept, request.rank, request.seed)
    if request.recompute:
        recompute_layers(student)
    part = CachePart(top=predictions.top, rest=predictions.rest(), disk_bytes=predictions.n_bytes)
    return TeacherAndStudent(student, predictions, predictions.losses(), part)


def _predictions(job: HealJob) -> Predictions | None:
    """The teacher's predictions, whether they are there yet or not; None where it is asked live."""
    request = job.request
    if request.teacher_cache is None:
        return None
    return Predictions(
        Path(request.teacher_cache),
        (job.training.n_sequences, job.training.length),
        TOP if request.teacher_top is None else request.teacher_top,
        # What decides the predictions; a folder made under anything else is refused.
        {
            "model": job.full.fingerprint(),
            "text_sha256": job.training.sha256,
            "held_out_sha256": job.held_out.sha256,
            "dtype": str(healing_dtype(job, pick_device(request.device))).removeprefix("torch."),
            "coterie": versions()["coterie"],
        },
    )
