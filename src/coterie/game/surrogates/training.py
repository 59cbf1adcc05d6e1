"""Training many small networks side by side: one program of batched products, in numpy.

The network is the paper's: Linear(L, 2L) → CELU → Linear(2L, 1) → Sigmoid, squared error, SGD with
momentum (Ding et al. 2026, arXiv:2602.07804, and its public code). All weights of a replicate lie
in one row, so that a step of the descent is three operations for all replicates and layers.

A `Trainer` is anything that makes weights of lessons; `coterie.engine.training` has one for GPUs.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Coalitions, Indices, Matrix

Floats = NDArray[np.float32]
"""Single precision: twice the speed, and the targets are known to three digits."""

SIDE_BY_SIDE = 6  # replicates trained together: their activations still fit the cache
THREADS = 2  # on 16 cores 4 took 22 s where 2 took 13 s: small steps wait for the interpreter


@dataclass(frozen=True)
class Schedule:
    """Stochastic gradient descent with momentum; the rate falls tenfold at each third.

    Attributes:
        epochs: Passes over all coalitions.
        batch: Coalitions of a step.
        rate: Learning rate of the first third.
        momentum: Share of the last step that is taken again.
    """

    epochs: int
    batch: int
    rate: float
    momentum: float

    def rate_in(self, epoch: int) -> float:
        """The learning rate in an epoch."""
        return self.rate * 0.1 ** (3 * epoch // self.epochs)


@dataclass(frozen=True, eq=False)
class Lessons:
    """What some networks are trained on, a replicate each.

    Attributes:
        inputs: Coalitions as numbers, and a column of ones for the bias,
            ``(n_coalitions, n_players + 1)``.
        rows: Which coalitions a replicate sees, ``(n_replicates, n_rows)``.
        targets: Their values, ``(n_replicates, n_rows)``.
        rngs: One per replicate: its start, then the order of every epoch.
        schedule: How the descent goes.
    """

    inputs: Floats
    rows: Indices
    targets: Floats
    rngs: Sequence[np.random.Generator]
    schedule: Schedule

    @classmethod
    def of(
        cls,
        coalitions: Coalitions,
        targets: Matrix,
        rows: Sequence[Indices],
        rngs: Sequence[np.random.Generator],
        schedule: Schedule,
    ) -> "Lessons":
        """Lessons in the form in which `Surrogate.refit` is given them.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: ``(n_replicates, n_coalitions)``.
            rows: Coalitions that each replicate sees, all of one length.
            rngs: One per replicate.
            schedule: How the descent goes.
        """
        ones = np.ones((len(coalitions), 1), dtype=np.float32)
        inputs = np.concatenate([coalitions.astype(np.float32), ones], axis=1)
        chosen = np.stack(list(rows))
        known = np.take_along_axis(targets, chosen, axis=1).astype(np.float32)
        return cls(inputs, chosen, known, rngs, schedule)

    def __getitem__(self, some: slice) -> "Lessons":
        """The lessons of some replicates."""
        rows, targets, rngs = self.rows[some], self.targets[some], self.rngs[some]
        return Lessons(self.inputs, rows, targets, rngs, self.schedule)

    @property
    def n_players(self) -> int:
        """Players of a coalition; a network has twice as many hidden units."""
        return self.inputs.shape[1] - 1

    def start(self) -> "Weights":
        """Random weights, as torch starts a Linear layer: uniform within ± 1 / √(inputs)."""
        n = self.n_players
        started = Weights.empty(len(self.rngs), n)
        for r, rng in enumerate(self.rngs):
            # Drawn in the order of the layers: weight, bias, weight, bias.
            started.inner[r, :, :n] = rng.uniform(-1, 1, size=(n, 2 * n)).T / np.sqrt(n)
            started.inner[r, :, n] = rng.uniform(-1, 1, size=2 * n) / np.sqrt(n)
            started.outer[r] = rng.uniform(-1, 1, size=2 * n) / np.sqrt(2 * n)
            started.outer_bias[r] = rng.uniform(-1, 1, size=1) / np.sqrt(2 * n)
        return started

    def orders(self) -> Iterator[tuple[Indices, Floats]]:
        """The coalitions in the order of each epoch, and their values."""
        for _ in range(self.schedule.epochs):
            order = np.stack([rng.permutation(self.rows.shape[1]) for rng in self.rngs])
            yield (
                np.take_along_axis(self.rows, order, axis=1),
                np.take_along_axis(self.targets, order, axis=1),
            )

    def steps(self) -> list[slice]:
        """Which places of an order each step of an epoch takes."""
        return list(chunks(self.rows.shape[1], self.schedule.batch))


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of some networks: one array, and the views by which it is read."""

    flat: Floats
    """``(n_replicates, n_weights)``."""
    inner: Floats
    """``(n_replicates, n_hidden, n_players + 1)``: the bias comes last."""
    outer: Floats
    """``(n_replicates, n_hidden)``."""
    outer_bias: Floats
    """``(n_replicates, 1)``."""

    @classmethod
    def over(cls, flat: Floats, n_players: int) -> "Weights":
        """Views of an array ``(n_replicates, n_weights)``."""
        wide, deep = n_players + 1, 2 * n_players
        inner = flat[:, : deep * wide].reshape(len(flat), deep, wide)
        return cls(flat, inner, flat[:, deep * wide : -1], flat[:, -1:])

    @classmethod
    def empty(cls, n_replicates: int, n_players: int) -> "Weights":
        """Weights not yet written."""
        n_weights = 2 * n_players * (n_players + 1) + 2 * n_players + 1
        return cls.over(np.empty((n_replicates, n_weights), dtype=np.float32), n_players)


Trainer = Callable[[Lessons], Weights]
"""Trains the networks of some lessons."""


def trained(lessons: Lessons) -> Weights:
    """Train on this machine, a few replicates to a core at a time."""
    workers = min(cores(), THREADS)  # numpy lets go of the interpreter while it computes
    n_replicates = len(lessons.rngs)
    together = max(1, min(SIDE_BY_SIDE, -(-n_replicates // workers)))
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda some: _descend(lessons[some]), chunks(n_replicates, together)))
    return Weights.over(np.concatenate([part.flat for part in parts]), lessons.n_players)


def _descend(lessons: Lessons) -> Weights:
    """All epochs of some replicates, on one core."""
    schedule, weights = lessons.schedule, lessons.start()
    flat, slope = weights.flat, Weights.empty(len(weights.flat), lessons.n_players)
    speed = np.zeros_like(flat)
    seen = np.empty((*lessons.rows.shape, lessons.inputs.shape[1]), dtype=np.float32)
    rooms: dict[int, Room] = {}  # two at most: the last batch of an epoch may be short
    for epoch, (rows, wanted) in enumerate(lessons.orders()):
        rate = np.float32(-schedule.rate_in(epoch))
        np.take(lessons.inputs, rows, axis=0, out=seen, mode="clip")  # the mode of no copy
        for step in lessons.steps():
            inputs, targets = seen[:, step], wanted[:, step]
            if targets.shape[1] not in rooms:
                rooms[targets.shape[1]] = Room.of(weights, targets.shape[1])
            write_slopes(weights, inputs, targets, slope, rooms[targets.shape[1]])
            speed *= np.float32(schedule.momentum)
            speed += slope.flat
            flat += np.multiply(speed, rate, out=slope.flat)
    return weights


@dataclass(frozen=True, eq=False)
class Room:
    """Arrays that every step writes anew: to make them costs more than to fill them."""

    before: Floats
    other: Floats
    bend: Floats
    weighted: Floats

    @classmethod
    def of(cls, weights: Weights, n_batch: int) -> "Room":
        """Room for a step of a batch of this many."""
        n_replicates, n_hidden, wide = weights.inner.shape
        before, other, bend = (
            np.empty((n_replicates, n_hidden, n_batch), np.float32) for _ in range(3)
        )
        return cls(before, other, bend, np.empty((n_replicates, n_batch, wide), np.float32))


def write_slopes(
    weights: Weights,
    inputs: Floats,
    targets: Floats,
    slope: Weights,
    room: "Room | None" = None,
) -> None:
    """Write the gradient of the mean squared error of each replicate.

    Args:
        weights: Where the gradient is taken.
        inputs: ``(n_replicates, n_batch, n_players + 1)``, the last column ones.
        targets: ``(n_replicates, n_batch)``.
        slope: Where it is written, in the form of the weights.
        room: Arrays to compute in.
    """
    n_batch = targets.shape[1]
    room = Room.of(weights, n_batch) if room is None else room
    # CELU(x) + 1 = max(x, 0) + exp(min(x, 0)); with h = x / 2 these are h ± |h|, which is cheaper.
    half = np.multiply(weights.inner, np.float32(0.5))
    hidden = np.matmul(half, inputs.transpose(0, 2, 1), out=room.before)
    bend = np.subtract(hidden, np.abs(hidden, out=room.other), out=room.bend)
    np.exp(bend, out=bend)  # CELU's own derivative
    hidden += room.other
    hidden += bend
    error = _errors(weights, hidden, targets)
    total = error.sum(axis=1, keepdims=True)
    np.matmul(hidden, error[:, :, None], out=slope.outer[:, :, None])
    slope.outer[...] -= total
    slope.outer_bias[...] = total
    # Errors scale the few inputs and outer weights the slopes, instead of every activation.
    np.multiply(inputs, error[:, :, None], out=room.weighted)
    np.matmul(bend, room.weighted, out=slope.inner)
    slope.inner[...] *= weights.outer[:, :, None]


def _errors(weights: Weights, hidden: Floats, targets: Floats) -> Floats:
    """Derivative of the loss by the logits, ``(n_replicates, n_batch)``."""
    output = np.matmul(weights.outer[:, None, :], hidden)[:, 0]
    output += weights.outer_bias - weights.outer.sum(axis=1, keepdims=True)
    np.exp(np.negative(output, out=output), out=output)
    np.reciprocal(np.add(output, 1, out=output), out=output)
    error = output - targets
    error *= output
    error *= np.subtract(1, output, out=output)
    error *= np.float32(2 / targets.shape[1])
    return error


def cores() -> int:
    """Cores that this process may use."""
    # A process pinned to a few cores of many would else start a thread for each of the many.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices that cover a range, each of at most ``size``."""
    return (slice(start, min(start + size, total)) for start in range(0, total, max(1, size)))
