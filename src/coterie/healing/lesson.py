"""One step of learning: losses of a batch, read in parts and by several processes, and a step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from coterie.game.coalitions import Indices
from coterie.healing.gap_states import entering, gaps
from coterie.healing.objective import BatchLosses, LossWeights, batch_losses
from coterie.healing.origin import HealError
from coterie.healing.schedule import training_batches
from coterie.healing.several import Processes, processes
from coterie.healing.students import Student
from coterie.healing.teachers import Teacher
from coterie.models.loaded.routing import input_device
from coterie.texts.sets import Tokens


@dataclass(frozen=True)
class TrainingPlan:
    """How long to learn, and at which learning rate.

    Attributes:
        steps: Optimiser steps.
        batch: Sequences per step.
        learning_rate: The learning rate at its peak.
        gaps: Weight of the states after each gap, added to the KL; 0 leaves them alone.
        cross_entropy: Weight of the text itself, added too.
        minutes: At most this much time, loading apart: how many steps fit is decided after a few.
        seed: Decides the order of the sequences.
        parts: A batch is read in so many parts, whose gradients are summed, to save memory.
        dtype: Forward and backward passes compute in it where that is safe; None as the weights.
        sweeps: Whether several rates about that one are tried first.
        watched: Sequences unlike those that are learned from; None stops nothing early.
    """

    steps: int
    batch: int
    learning_rate: float
    gaps: float = 0.0
    minutes: float | None = None
    seed: int = 0
    cross_entropy: float = 0.0
    parts: int = 1
    dtype: torch.dtype | None = None
    sweeps: bool = False
    watched: Tokens | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class TaughtLesson:
    """Who learns what from whom, and beside whom."""

    student: Student
    teacher: Teacher
    tokens: Tokens
    plan: TrainingPlan
    here: Processes = field(default_factory=lambda: processes())

    def optimizer(self) -> torch.optim.AdamW:
        """A new one."""
        # No weight decay: it would pull adapters to nothing, and weights away from the cut model.
        trained, rate = self.student.trained.values(), self.plan.learning_rate
        return torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)

    def batches(self) -> Iterator[Indices]:
        """Rows of the sequences, a batch at a time."""
        return training_batches(len(self.tokens), self.plan.batch, self.plan.seed)


def find_gradients(
    lesson: TaughtLesson, rows: Indices, optimizer: torch.optim.Optimizer
) -> tuple[float, float, float]:
    """Half of a step, which moves nothing: the gradients of a batch, of all who share it.

    Returns KL and cross-entropy, nats per token, and the distance of states.

    Args:
        lesson: Who learns from whom.
        rows: The sequences of the batch.
        optimizer: Of the weights that learn.

    Raises:
        HealError: the loss is no number any more.
    """
    measured = np.zeros(4)
    own = lesson.here.share(rows)
    for part in np.array_split(own, min(lesson.plan.parts, len(own))):
        share = len(part) / len(own)
        found = _backward(lesson, part, share)
        losses = (found.total, found.kl, found.text, found.states)
        measured += share * np.array([one.item() for one in losses])
    # The mean of all, in place: whoever stopped by its own rows would leave the others waiting.
    lesson.here.average([torch.from_numpy(measured)])
    total, kl, text, states = measured.tolist()
    # Judged before the step: a loss that is no number must move no weight.
    if not np.isfinite(total):
        raise _diverged(total, optimizer)
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    if lesson.here.count > 1:
        # An expert that reads no token here may read some elsewhere: all average alike.
        for one in parameters:
            one.grad = torch.zeros_like(one) if one.grad is None else one.grad
    lesson.here.average(one.grad for one in parameters if one.grad is not None)
    # One odd batch shall not undo the steps before it.
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    return kl, text, states


def move(optimizer: torch.optim.Optimizer) -> None:
    """The other half: move the weights along their gradients, and forget these."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def descend(
    lesson: TaughtLesson, rows: Indices, optimizer: torch.optim.Optimizer
) -> tuple[float, float, float]:
    """One whole step; returns KL and cross-entropy, nats per token, and the distance of states.

    Args:
        lesson: Who learns from whom.
        rows: The sequences of the batch.
        optimizer: Takes the step, at the learning rate that is set in it.

    Raises:
        HealError: the loss is no number any more.
    """
    measured = find_gradients(lesson, rows, optimizer)
    move(optimizer)
    return measured


def _backward(lesson: TaughtLesson, rows: Indices, share: float) -> BatchLosses:
    """Add the gradients of some rows, weighed by their share of the batch."""
    student, plan = lesson.student, lesson.plan
    batch = torch.from_numpy(lesson.tokens[rows]).to(input_device(student.model))
    targets = lesson.teacher.targets(rows, batch)
    weights = LossWeights(plan.gaps, plan.cross_entropy)
    places = gaps(student.kept) if weights.gaps else ()
    computed = torch.autocast(batch.device.type, plan.dtype, enabled=plan.dtype is not None)
    with student.alone(), entering(student.stack, places) as states:
        with computed:
            logits = student.predict(batch)
        found = batch_losses(logits, batch, targets, states, weights)
        (found.total if share == 1 else share * found.total).backward()
    return found


def _diverged(loss: float, optimizer: torch.optim.Optimizer) -> HealError:
    optimizer.zero_grad(set_to_none=True)
    rate = optimizer.param_groups[0]["lr"]
    return HealError(
        f"the loss became {loss} while healing at a learning rate of {rate:.2g}:"
        " give a smaller --learning-rate and another --output"
    )


def few_steps(lesson: TaughtLesson, steps: int, rate: Callable[[int], float]) -> list[float]:
    """Learn for a few steps that nobody will go on from; returns the KL of each.

    Args:
        lesson: Who learns from whom.
        steps: How many.
        rate: The learning rate at each step.

    Raises:
        HealError: the loss is no number any more.
    """
    optimizer, order, found = lesson.optimizer(), lesson.batches(), []
    for done in range(steps):
        set_rate(optimizer, rate(done))
        found.append(descend(lesson, next(order), optimizer)[0])
    return found


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Take the next step at this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
