"""Short distillation: the kept layers learn the full model's predictions, and can be interrupted.

The loss is KL(full ‖ kept) per predicted token (arXiv:1503.02531 at temperature 1), over the whole
vocabulary unless the teacher says less, and the states after each gap where that is asked.
The learning rate rises over the first steps and falls linearly to zero.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coterie.game.coalitions import Indices
from coterie.healing.checkpoint import Checkpoint, LearningState
from coterie.healing.gap_states import distance, entering, gaps
from coterie.healing.origin import HealError
from coterie.healing.students import Student
from coterie.healing.teachers import Targets, Teacher
from coterie.models.loaded.routing import input_device

WARMUP = 0.05
"""Share of the steps over which the learning rate rises."""

_TIMED = 4
"""Steps after which it is decided how many fit into the minutes; the first is not counted."""

_SAVED_EVERY = 60.0  # seconds

CURVE = 60
"""Most points of the curve that a record keeps."""

Step = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


@dataclass(frozen=True)
class TrainingPlan:
    """How long to learn, and at which learning rate.

    Attributes:
        steps: Optimiser steps.
        batch: Sequences per step.
        learning_rate: The learning rate at its peak.
        gaps: Weight of the states after each gap, added to the KL; 0 leaves them alone.
        minutes: At most this much time, loading apart: how many steps fit is decided after a few.
        seed: Decides the order of the sequences.
    """

    steps: int
    batch: int
    learning_rate: float
    gaps: float = 0.0
    minutes: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Learned:
    """What a student went through.

    Attributes:
        steps: Steps done; fewer than planned where the minutes were not enough.
        tokens: Tokens read, repetitions counted.
        seconds: Spent learning, over all runs.
        kl: Nats per token, mean over the first and over the last tenth of the steps.
        curve: The same from first to last, means over stretches of equally many steps.
    """

    steps: int
    tokens: int
    seconds: float
    kl: tuple[float, float]
    curve: tuple[float, ...] = ()


def learn(
    student: Student,
    teacher: Teacher,
    tokens: NDArray[np.int64],
    plan: TrainingPlan,
    *,
    checkpoint: Checkpoint,
    step: Step = lambda done, total: None,
) -> Learned:
    """Train a student, from a checkpoint where there is one.

    Args:
        student: What learns.
        teacher: Asked about the rows of ``tokens``; it knows the states after each gap if the plan
            gives them a weight.
        tokens: Training sequences ``(n_sequences, length)``; read again when they are through.
        plan: How long to learn, and at which learning rate.
        checkpoint: What has been learned so far: written once a minute, and when stopped.
        step: Called with the steps done and the steps in all.

    Raises:
        StudyMismatch: the checkpoint belongs to other settings.
        HealError: the loss is no number any more.
    """
    # No weight decay: it would pull adapters to nothing, and weights away from the cut model.
    trained = student.trained
    optimizer = torch.optim.AdamW(trained.values(), lr=plan.learning_rate, weight_decay=0.0)
    state = checkpoint.load(trained, optimizer) or LearningState(plan.steps)
    saved = time.monotonic()
    steps = _steps(student, teacher, tokens=tokens, plan=plan, optimizer=optimizer, state=state)
    try:
        # The generator does the work; here is what surrounds a step: progress, and saving.
        for _ in steps:
            step(state.step, state.steps)
            if time.monotonic() - saved > _SAVED_EVERY and state.step >= _TIMED:
                checkpoint.save(trained, optimizer, state)
                saved = time.monotonic()
    finally:
        # Before it is decided how many steps fit there is nothing worth going on from.
        if state.step >= _TIMED or state.step == state.steps:
            checkpoint.save(trained, optimizer, state)
    return _learned(state, state.steps * plan.batch * tokens.shape[1])


def _steps(
    student: Student,
    teacher: Teacher,
    *,
    tokens: NDArray[np.int64],
    plan: TrainingPlan,
    optimizer: torch.optim.Optimizer,
    state: LearningState,
) -> Iterator[None]:
    """Do the steps that are left, one each time the caller goes on, and count them in the state."""
    began = time.monotonic() - state.seconds
    # A run that was stopped goes on with the batch it would have read next.
    order = islice(training_batches(len(tokens), plan.batch, plan.seed), state.step, None)
    while state.step < state.steps:
        rows = next(order)
        batch = torch.from_numpy(tokens[rows]).to(input_device(student.model))
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * learning_rate(state.step, state.steps)
        targets = teacher.targets(rows, batch)
        state.losses += (_descend(student, targets, batch, optimizer, plan.gaps),)
        state.step += 1
        state.seconds = time.monotonic() - began
        # The minutes become a number of steps, so that the learning rate falls to zero in time.
        if plan.minutes is not None and state.step == _TIMED:
            state.steps = _fitting(state, 60 * plan.minutes)
        yield


def _learned(state: LearningState, tokens: int) -> Learned:
    # One step is noise: a tenth of the steps shows where learning began and ended.
    tenth = max(1, state.steps // 10)
    first, last = (float(np.mean(part)) for part in (state.losses[:tenth], state.losses[-tenth:]))
    curve = tuple(curve_of(state.losses))
    return Learned(state.steps, tokens, state.seconds, (first, last), curve)


def curve_of(losses: Sequence[float]) -> list[float]:
    """Means over stretches of equally many steps, at most `CURVE` of them.

    >>> curve_of([3.0, 2.0, 1.0])
    [3.0, 2.0, 1.0]
    """
    stretches = np.array_split(np.asarray(losses, dtype=float), min(CURVE, max(1, len(losses))))
    return [float(f"{one.mean():.6g}") for one in stretches if len(one)]


def learning_rate(step: int, steps: int) -> float:
    """Factor on the peak: up over the first steps, then linearly to zero.

    >>> [round(learning_rate(step, 40), 2) for step in (0, 1, 2, 39)]
    [0.5, 1.0, 1.0, 0.03]
    """
    warmup = max(1, round(WARMUP * steps))
    return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def training_batches(n_sequences: int, size: int, seed: int) -> Iterator[Indices]:
    """Rows of sequences, ``(size,)`` each, without end: every sequence once before any twice.

    Args:
        n_sequences: Sequences there are.
        size: Sequences in a batch.
        seed: Decides the order.

    >>> rows = training_batches(3, 2, seed=0)
    >>> sorted([*next(rows), *next(rows)][:3]) == [0, 1, 2]
    True
    """
    # The order depends on seed and epoch alone, so a run that goes on draws the same batches.
    epoch, left = 0, np.empty(0, dtype=np.intp)
    while True:
        while len(left) < size:
            left = np.append(left, np.random.default_rng([seed, epoch]).permutation(n_sequences))
            epoch += 1
        yield left[:size]
        left = left[size:]


def _descend(
    student: Student,
    targets: Targets,
    tokens: Tensor,
    optimizer: torch.optim.Optimizer,
    weight: float,
) -> float:
    """One step; returns the KL, nats per token."""
    places = gaps(student.kept) if weight else ()
    with student.alone(), entering(student.stack, places) as states:
        # The KL alone is reported; the distance of states only steers.
        kl = targets.divergence(student.predict(tokens))
        loss = kl + weight * distance(states, targets.states).to(kl.device) if weight else kl
        loss.backward()
    if not torch.isfinite(loss):
        rate = optimizer.param_groups[0]["lr"]
        raise HealError(
            f"the loss became {loss.item()} while healing at a learning rate of {rate:.2g}:"
            " give a smaller --learning-rate and another --output"
        )
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    # One odd batch shall not undo the steps before it.
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return kl.item()


def _fitting(state: LearningState, seconds: float) -> int:
    each = state.seconds / state.step
    return max(state.step, min(state.steps, int(seconds / each)))
