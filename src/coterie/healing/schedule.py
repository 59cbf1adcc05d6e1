"""When a student reads what, and at which learning rate: both known before it begins."""

import math
from collections.abc import Iterator

import numpy as np

from coterie.game.coalitions import Indices

WARMUP = 0.05
"""Share of the steps over which the learning rate rises."""


def learning_rate(step: int, steps: int) -> float:
    """Factor on the peak: up over the first steps, then along a cosine to zero.

    >>> [round(learning_rate(step, 40), 2) for step in (0, 1, 2, 21, 40)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


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
