"""`heal --dry-run`: steps, tokens, time, memory and disk of a healing, stated and not done."""

from dataclasses import replace
from pathlib import Path
from time import monotonic

from coterie.healing.lesson import TaughtLesson, descend, set_rate
from coterie.healing.teacher_cache import TOP
from coterie.models.loaded.load import pick_device
from coterie.report.schema.plan import HealPlan
from coterie.verbs.after_cut.complete import completed
from coterie.verbs.after_cut.heal import STATE, admit
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.job import HealJob
from coterie.verbs.after_cut.learning import plan_of
from coterie.verbs.after_cut.teaching import check_teacher_at, open_student_and_teacher
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.verdict import n_bytes

_MOVED = 4
"""Numbers in float32 for each that is trained: itself, its gradient, and two moments."""

_PREDICTED = 6
"""Bytes of a likely token in a cache: its id and its log-probability."""


@public
def heal_plan(
    request: HealRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> HealPlan:
    """What `heal` would do and cost: two steps are done and thrown away, and nothing is written.

    Args:
        request: Which checkpoint, and how it learns.
        output: Folder for the healed checkpoint.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file in which the paths of the cut are noted; None is the user's.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check()
    request = completed(request, store)
    progress, output = progress or NoProgress(), Path(output)
    OutputFolder(output, request, overwrite=overwrite, working=(STATE,)).check()
    job, device = admit(request, progress), pick_device(request.device)
    check_teacher_at(job, output)
    # A cache is not begun for a plan: the teacher is asked here, which takes no less time.
    live = replace(job, request=replace(request, teacher_cache=None, teacher_top=None))
    pair = open_student_and_teacher(live, device, progress)
    lesson = TaughtLesson(pair.student, pair.teacher, job.training.tokens, plan_of(job))
    each = _seconds(lesson)
    most = request.steps if request.minutes is None else int(60 * request.minutes / each)
    steps = max(1, min(request.steps, most))
    trained = sum(one.numel() for one in pair.student.trained.values())
    weights = sum(one.numel() * one.element_size() for one in pair.student.model.parameters())
    return HealPlan(
        kind="heal-plan",
        command=request.command(output),
        mode=request.mode,
        steps=steps,
        batch=request.batch,
        length=job.training.length,
        tokens=steps * request.batch * job.training.length,
        sequences=job.training.n_sequences,
        trained_parameters=trained,
        seconds=each * steps,
        memory_bytes=weights + 4 * _MOVED * trained,
        disk_bytes=n_bytes(job.cut) + 12 * trained + _cache_bytes(job),
        text=text_part(job.training),
    )


def _seconds(lesson: TaughtLesson) -> float:
    """Of a step: the second of two, for the first is slower than those that follow."""
    optimizer, order = lesson.optimizer(), lesson.batches()
    set_rate(optimizer, 0.0)
    descend(lesson, next(order), optimizer)
    began = monotonic()
    descend(lesson, next(order), optimizer)
    return max(monotonic() - began, 1e-9)


def _cache_bytes(job: HealJob) -> int:
    """Of the teacher's predictions on all sequences; 0 where they are not kept."""
    if job.request.teacher_cache is None:
        return 0
    return job.training.tokens.size * (_PREDICTED * (job.request.teacher_top or TOP) + 6)
