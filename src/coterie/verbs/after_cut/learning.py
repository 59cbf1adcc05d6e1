"""A student learns from its teacher; both leave memory, and what was learned stays."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig

from coterie.game.coalitions import Vector
from coterie.healing.checkpoint import Checkpoint
from coterie.healing.distill import Learned, learn
from coterie.healing.lesson import TrainingPlan
from coterie.healing.modes import MODES
from coterie.healing.students import Student
from coterie.models.families.fields import text_config
from coterie.models.files.shards import DTYPES
from coterie.models.files.sources import Source
from coterie.plain import finite
from coterie.report.schema.after_cut import LearningPart, RatePart, WatchedPart
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import Tokens
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.job import HealJob
from coterie.verbs.after_cut.teaching import TeacherAndStudent, open_student_and_teacher
from coterie.verbs.shared.progress import Progress

_WIDTH = 160
"""Width of the reference model: rates fall with the width beyond it."""


@dataclass(frozen=True, eq=False)
class Distilled:
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
    part: LearningPart


def distilled(
    job: HealJob,
    device: torch.device,
    checkpoint: Checkpoint,
    progress: Progress,
) -> Distilled:
    """Teach the student all steps that are left, and let both models go.

    Args:
        job: What is healed.
        device: Device that both models run on.
        checkpoint: What has been learned so far.
        progress: Shows how far it has come.
    """
    pair, plan = open_student_and_teacher(job, device, progress), plan_of(job)
    student = pair.student

    def step(done: int, total: int) -> None:
        progress.step("healing", done, total)

    tokens = job.training.tokens
    learned = learn(student, pair.teacher, tokens, plan, checkpoint=checkpoint, step=step)
    return Distilled(
        weights=student.merged(),
        path=student.stack.path,
        kept=student.kept,
        in_memory=_in_memory(student, job.held_out.tokens, _dtype_of(job.cut)),
        full=pair.full,
        part=_learning(job.request, plan, learned, pair),
    )


def plan_of(job: HealJob) -> TrainingPlan:
    """How long is learned, at which rate, and how thriftily."""
    request, mode = job.request, MODES[job.request.mode]
    bits = request.dtype == "bfloat16"
    rate = request.learning_rate or usual_rate(request.mode, job.full.config())
    return TrainingPlan(
        steps=request.steps,
        batch=request.batch,
        learning_rate=rate,
        gaps=request.seams,
        minutes=request.minutes,
        seed=request.seed,
        cross_entropy=request.cross_entropy,
        parts=request.parts,
        # Adapters' models are in 16 bits as a whole; weights that move stay as they are.
        dtype=torch.bfloat16 if bits and not mode.adapters else None,
        sweeps=request.sweep,
        watched=None if job.watched is None else job.watched.tokens,
    )


def usual_rate(mode: str, config: PretrainedConfig) -> float:
    """The learning rate of a mode where none is given, for a model of this config."""
    # Rates are measured at one width; wider models take less (as in arXiv:2203.03466).
    width = int(getattr(text_config(config), "hidden_size", _WIDTH))
    return MODES[mode].learning_rate * min(1.0, _WIDTH / width)


def _dtype_of(cut: Source) -> torch.dtype:
    """The dtype in which a checkpoint holds most of its numbers; float32 where they are packed."""
    counts: Counter[torch.dtype] = Counter()
    for entry in cut.entries:
        counts[DTYPES.get(entry.dtype, torch.float32)] += entry.n_values
    return counts.most_common(1)[0][0] if counts else torch.float32


def _in_memory(student: Student, tokens: Tokens, dtype: torch.dtype) -> float:
    """Mean loss of the student, nats per token, rounded as its files will be."""
    with student.alone(), student.rounded(dtype):
        return float(floored_losses(student.model, tokens, predict=student.predict)[0].mean())


def _learning(
    request: HealRequest, plan: TrainingPlan, learned: Learned, pair: TeacherAndStudent
) -> LearningPart:
    return LearningPart(
        mode=request.mode,
        rank=request.rank if MODES[request.mode].adapters else None,
        learning_rate=learned.rate,
        seams=plan.gaps,
        batch=plan.batch,
        steps=learned.steps,
        steps_asked=plan.steps,
        tokens=learned.tokens,
        seconds=learned.seconds,
        trained_parameters=sum(one.numel() for one in pair.student.trained.values()),
        kl_first=learned.kl[0],
        kl_last=learned.kl[1],
        curve=list(learned.curve),
        cache=pair.cache,
        text_first=learned.text[0],
        text_last=learned.text[1],
        states_first=learned.states[0] if plan.gaps else None,
        states_last=learned.states[1] if plan.gaps else None,
        rates=[RatePart(rate, finite(loss)) for rate, loss in learned.tried] or None,
        watched=[WatchedPart(step, loss) for step, loss in learned.watched] or None,
    )
