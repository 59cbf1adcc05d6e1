"""Short distillation: the kept layers learn the full model's predictions, and can be interrupted.

The loss is KL(full ‖ kept) per predicted token (arXiv:1503.02531 at temperature 1), over the whole
vocabulary unless the teacher says less; beside it, where they have a weight, the cross-entropy of
the text and the states after each gap.
The learning rate rises over the first steps and falls to zero along a cosine (arXiv:1608.03983).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from coterie.healing.checkpoint import Checkpoint, LearningState
from coterie.healing.lesson import (
    TaughtLesson,
    TrainingPlan,
    few_steps,
    find_gradients,
    move,
    set_rate,
)
from coterie.healing.rates import sweep_rates
from coterie.healing.schedule import learning_rate
from coterie.healing.students import Student
from coterie.healing.teachers import Teacher
from coterie.healing.watching import WatchedTexts

_TIMED = 4
"""Steps after which it is decided how many fit into the minutes; the first is not counted."""

_RISING = 4
"""Steps over which the rate rises where several are tried."""

_SAVED_EVERY = 60.0  # seconds

CURVE = 60
"""Most points of the curve that a record keeps."""

Step = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


@dataclass(frozen=True)
class Learned:
    """What a student went through.

    Attributes:
        steps: Steps done; fewer than planned where the minutes were not enough.
        tokens: Tokens read, repetitions counted.
        seconds: Spent learning, over all runs.
        kl: Nats per token, mean over the first and over the last tenth of the steps.
        curve: The same from first to last, means over stretches of equally many steps.
        text: Cross-entropy of the text likewise.
        states: Distance of the states after the gaps likewise; 0 without a weight.
        rate: The learning rate at its peak.
        tried: Every rate of a sweep with its loss; none without one.
        watched: Steps, and the loss then on the texts that were watched.
    """

    steps: int
    tokens: int
    seconds: float
    kl: tuple[float, float]
    curve: tuple[float, ...] = ()
    text: tuple[float, float] = (0.0, 0.0)
    states: tuple[float, float] = (0.0, 0.0)
    rate: float = 0.0
    tried: tuple[tuple[float, float], ...] = ()
    watched: tuple[tuple[int, float], ...] = ()


@dataclass
class _Moving:
    """Whether weights are moved now, so that some are of this step and some of the last.

    Attributes:
        now: It stays True where moving was broken off: what is there is of no step.
    """

    now: bool = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self.now = True
        yield
        self.now = False


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
    trained, lesson = student.trained, TaughtLesson(student, teacher, tokens, plan)
    optimizer, saved = lesson.optimizer(), time.monotonic()
    watch = None if plan.watched is None else WatchedTexts(plan.watched, checkpoint.best())
    state, moving = checkpoint.load(trained, optimizer) or _begun(lesson, trained), _Moving()

    def save() -> None:
        if lesson.here.writes:
            checkpoint.save(trained, optimizer, state, watch.best if watch else {})

    try:
        # The generator does the work; here is what surrounds a step: progress, and saving.
        for _ in _steps(lesson, optimizer, state, watch, moving):
            step(state.step, state.steps)
            if time.monotonic() - saved > _SAVED_EVERY and state.step >= _TIMED:
                save()
                saved = time.monotonic()
    finally:
        # Before it is decided how many steps fit there is nothing worth going on from; stopped in
        # the middle of a step, what was saved last is.
        if not moving.now and (state.step >= _TIMED or state.step == state.steps):
            save()
    lesson.here.wait()
    if watch is not None:
        watch.give_back(trained)
    return _learned(state, state.steps * plan.batch * tokens.shape[1], plan.learning_rate)


def _begun(lesson: TaughtLesson, trained: dict[str, torch.nn.Parameter]) -> LearningState:
    """The state of a run that begins, with the best rate of a sweep where one is asked for."""
    state = LearningState(lesson.plan.steps)
    if not lesson.plan.sweeps:
        return state

    def attempt(rate: float, steps: int) -> list[float]:
        # The same batches at every rate, and an optimizer of its own.
        return few_steps(lesson, steps, lambda done: rate * min(1.0, (done + 1) / _RISING))

    found = sweep_rates(trained, lesson.plan.learning_rate, attempt)
    state.rate, state.tried = found.rate, tuple(found.tried.items())
    return state


def _steps(
    lesson: TaughtLesson,
    optimizer: torch.optim.Optimizer,
    state: LearningState,
    watch: WatchedTexts | None,
    moving: _Moving,
) -> Iterator[None]:
    """Do the steps that are left, one each time the caller goes on, and count them in the state."""
    plan, peak = lesson.plan, lesson.plan.learning_rate if state.rate is None else state.rate
    began = time.monotonic() - state.seconds
    # A run that was stopped goes on with the batch it would have read next.
    order = islice(lesson.batches(), state.step, None)
    _look(lesson, state, watch)
    while state.step < state.steps:
        set_rate(optimizer, peak * learning_rate(state.step, state.steps))
        kl, text, states = find_gradients(lesson, next(order), optimizer)
        with moving.at_once():
            move(optimizer)
            state.losses += (kl,)
            state.text += (text,)
            state.states += (states,)
            state.step += 1
            state.seconds = time.monotonic() - began
            # The minutes become a number of steps, so that the learning rate falls to zero in time.
            if plan.minutes is not None and state.step == _TIMED:
                state.steps = _fitting(state, 60 * plan.minutes)
        _look(lesson, state, watch)
        yield


def _look(lesson: TaughtLesson, state: LearningState, watch: WatchedTexts | None) -> None:
    """Measure what is watched; learning then ends for all when it ends for the main process."""
    if watch is not None:
        watch.look(lesson.student, state)
    # Clocks differ, and whoever left first would leave the others waiting.
    state.steps = lesson.here.mains(state.steps)


def _learned(state: LearningState, tokens: int, usual: float) -> Learned:
    return Learned(
        steps=state.steps,
        tokens=tokens,
        seconds=state.seconds,
        kl=_ends(state.losses, state.steps),
        curve=tuple(curve_of(state.losses)),
        text=_ends(state.text, state.steps),
        states=_ends(state.states, state.steps),
        rate=usual if state.rate is None else state.rate,
        tried=state.tried,
        watched=state.watched,
    )


def _ends(losses: tuple[float, ...], steps: int) -> tuple[float, float]:
    """Means over the first and the last tenth."""
    # One step is noise: a tenth of the steps shows where learning began and ended.
    tenth = max(1, steps // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def curve_of(losses: Sequence[float]) -> list[float]:
    """Means over stretches of equally many steps, at most `CURVE` of them.

    >>> curve_of([3.0, 2.0, 1.0])
    [3.0, 2.0, 1.0]
    """
    stretches = np.array_split(np.asarray(losses, dtype=float), min(CURVE, max(1, len(losses))))
    return [float(f"{one.mean():.6g}") for one in stretches if len(one)]


def _fitting(state: LearningState, seconds: float) -> int:
    each = state.seconds / state.step
    return max(state.step, min(state.steps, int(seconds / each)))
