"""Short distillation: the kept layers learn the full model's predictions, and can be interrupted.

The loss is KL(full ‖ kept) per predicted token (arXiv:1503.02531 at temperature 1), over the whole
vocabulary unless the teacher says less, with the states at the seams beside it where that is asked.
The learning rate rises over the first steps and falls linearly to zero.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from coterie.errors import StudyMismatch
from coterie.game.coalitions import Indices
from coterie.healing.gap_states import distance, entering, seams
from coterie.healing.origin import HealError
from coterie.healing.students import Student
from coterie.healing.teachers import Taught, Teacher
from coterie.models.loaded.routing import input_device
from coterie.plain import Json

WARMUP = 0.05
"""Share of the steps over which the learning rate rises."""

_TIMED = 4
"""Steps after which it is decided how many fit into the minutes; the first is not counted."""

_SAVED_EVERY = 60.0  # seconds
_MOMENTS = ("exp_avg", "exp_avg_sq")

Step = Callable[[int, int], None]
"""Told the steps done and the steps in all."""


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how hard to learn.

    Attributes:
        steps: Optimiser steps.
        batch: Sequences per step.
        learning_rate: At its peak.
        seams: Weight of the states at the seams beside the KL; 0 leaves them alone.
        minutes: At most this much time, loading apart: how many steps fit is decided after a few.
        seed: Decides the order of the sequences.
    """

    steps: int
    batch: int
    learning_rate: float
    seams: float = 0.0
    minutes: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Learned:
    """What a pupil went through.

    Attributes:
        steps: Steps done; fewer than planned where the minutes were not enough.
        tokens: Tokens read, repetitions counted.
        seconds: Spent learning, over all runs.
        kl: Nats per token, mean over the first and over the last tenth of the steps.
    """

    steps: int
    tokens: int
    seconds: float
    kl: tuple[float, float]


@dataclass
class _State:
    steps: int
    step: int = 0
    seconds: float = 0.0
    losses: tuple[float, ...] = ()


def learn(
    student: Student,
    teacher: Teacher,
    tokens: NDArray[np.int64],
    plan: TrainingPlan,
    *,
    checkpoint: Path,
    identity: Mapping[str, Json],
    step: Step = lambda done, total: None,
) -> Learned:
    """Train a pupil, from a checkpoint where there is one.

    Args:
        teacher: Asked about the rows of ``tokens``; it knows the states at the seams if the plan
            gives them a weight.
        tokens: Training sequences ``(n_sequences, length)``; read again when they are through.
        checkpoint: File for what has been learned so far: written once a minute, and when stopped.
        identity: What decides the outcome; a checkpoint made under another is refused.

    Raises:
        StudyMismatch: the checkpoint belongs to other settings.
        HealError: the loss is no number any more.
    """
    trained = student.trained
    optimizer = torch.optim.AdamW(trained.values(), lr=plan.learning_rate, weight_decay=0.0)
    state = _load(checkpoint, trained, optimizer, identity) or _State(plan.steps)
    began, saved = time.monotonic() - state.seconds, time.monotonic()
    order = training_batches(len(tokens), plan.batch, plan.seed)
    for _ in range(state.step):
        next(order)
    try:
        while state.step < state.steps:
            rate = plan.learning_rate * learning_rate(state.step, state.steps)
            rows = next(order)
            batch = torch.from_numpy(tokens[rows]).to(input_device(student.model))
            taught = teacher.teach(rows, batch)
            state.losses += (_descend(student, taught, batch, optimizer, rate, plan.seams),)
            state.step += 1
            state.seconds = time.monotonic() - began
            if plan.minutes is not None and state.step == _TIMED:
                state.steps = _fitting(state, 60 * plan.minutes)
            step(state.step, state.steps)
            if time.monotonic() - saved > _SAVED_EVERY and state.step >= _TIMED:
                _save(checkpoint, trained, optimizer, identity, state)
                saved = time.monotonic()
    finally:
        # Before it is decided how many steps fit there is nothing worth going on from.
        if state.step >= _TIMED or state.step == state.steps:
            _save(checkpoint, trained, optimizer, identity, state)
    tenth = max(1, state.steps // 10)
    kl = tuple(float(np.mean(part)) for part in (state.losses[:tenth], state.losses[-tenth:]))
    read = state.steps * plan.batch * tokens.shape[1]
    return Learned(state.steps, read, state.seconds, (kl[0], kl[1]))


def learning_rate(step: int, steps: int) -> float:
    """Factor on the peak: up over the first steps, then linearly to zero."""
    warmup = max(1, round(WARMUP * steps))
    return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def training_batches(n_sequences: int, size: int, seed: int) -> Iterator[Indices]:
    """Rows of sequences, ``(size,)`` each, without end: every sequence once before any twice."""
    epoch, left = 0, np.empty(0, dtype=np.intp)
    while True:
        while len(left) < size:
            left = np.append(left, np.random.default_rng([seed, epoch]).permutation(n_sequences))
            epoch += 1
        yield left[:size]
        left = left[size:]


def _descend(
    student: Student,
    taught: Taught,
    tokens: Tensor,
    optimizer: torch.optim.Optimizer,
    rate: float,
    weight: float,
) -> float:
    """One step; returns the KL, nats per token."""
    places = seams(student.kept) if weight else ()
    with student.alone(), entering(student.stack, places) as learned:
        kl = taught.divergence(student.predict(tokens))
        loss = kl + weight * distance(learned, taught.states).to(kl.device) if weight else kl
        loss.backward()
    if not torch.isfinite(loss):
        raise HealError(
            f"the loss became {loss.item()} while healing at a learning rate of {rate:.2g}:"
            " give a smaller --learning-rate and another --output"
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return kl.item()


def _fitting(state: _State, seconds: float) -> int:
    each = state.seconds / state.step
    return max(state.step, min(state.steps, int(seconds / each)))


def _save(
    path: Path,
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Json],
    state: _State,
) -> None:
    tensors = {name: one.detach().cpu().contiguous() for name, one in trained.items()}
    for name, one in trained.items():
        moments = optimizer.state.get(one, {})
        tensors |= {f"{name}|{key}": moments[key].cpu() for key in _MOMENTS if key in moments}
    metadata = {"identity": json.dumps(identity), "state": json.dumps(vars(state))}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata)
    partial.replace(path)


def _load(
    path: Path,
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Json],
) -> _State | None:
    if not path.is_file():
        return None
    check_resume(path, identity)
    with safe_open(path, framework="pt") as file:
        state = _State(**json.loads(file.metadata()["state"]))
    state.losses = tuple(state.losses)
    tensors = load_file(path)
    for name, one in trained.items():
        with torch.no_grad():
            one.copy_(tensors[name])
        moments = {key: tensors[f"{name}|{key}"].to(one.device) for key in _MOMENTS}
        optimizer.state[one] = {"step": torch.tensor(float(state.step)), **moments}
    return state


def check_resume(path: Path, identity: Mapping[str, Json]) -> None:
    """Refuse a half-way state that was made under other settings.

    Raises:
        StudyMismatch: names the first setting that differs.
    """
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as file:
        before = json.loads(file.metadata()["identity"])
    now = json.loads(json.dumps(identity))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise StudyMismatch(
                f"a healing for this output was begun with {name} = {before.get(name)}, not"
                f" {now.get(name)}: ask for the same to go on, name another --output, or delete"
                f" {path.name}"
            )
