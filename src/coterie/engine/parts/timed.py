"""How long a coalition will take, told from one layer and one reading of the head."""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from coterie.engine.interface import Seconds
from coterie.engine.parts.layers import running_apart
from coterie.engine.walk import Walker
from coterie.game.coalitions import Game, observe_all

TURNS, ENOUGH = 3, 0.5
"""Times that a call is timed, the median counts; one this long, in seconds, is timed once."""


def walked_seconds(walker: Walker) -> Seconds:
    """Seconds of each layer and of the rest of one coalition on all texts of a walk.

    Two neighbours in the middle of the stack stand for all layers (blocks alternate, and so do the
    layers of some families), by their weights where layers are unequal; the head is read once.

    Args:
        walker: Runs the layers and reads the head, in the batches of a real walk.
    """
    texts, n_sequences = walker.tokens[[0, -1]], len(walker.tokens)
    with running_apart(), torch.no_grad():
        steps = walker.layers
        prelude = steps.prelude(texts)
        copies = max(1, walker.shape.rows // len(texts))
        state = prelude.embedded.repeat(copies, 1, 1)
        middle = len(steps.plays) // 2

        def run(step: int) -> Callable[[], Tensor]:
            return lambda: steps.run(prelude, step, state, 0, copies)

        timed = np.array([_seconds(run(step), state) for step in (max(0, middle - 1), middle)])
        plays = steps.plays[[max(0, middle - 1), middle]]
        each = timed / len(state) * n_sequences
        layer = float(each[plays].mean()) * _share(walker, middle) if plays.any() else 0.0
        # Between blocks of one kind, those of the other run in every coalition.
        beside = float(each[~plays].sum()) * (~steps.plays).sum() if not plays.all() else 0.0
        full = walker.batches.read_full(prelude.embedded, texts, kl=walker.kl)
        end = _seconds(lambda: walker.batches.read([prelude.embedded], texts, full), state)
    return Seconds(layer, beside + end / len(texts) * n_sequences)


def plain_seconds(game: Game) -> Seconds:
    """The same where coalitions go one at a time: the model with all layers and with none.

    Args:
        game: Observed on its first text.
    """
    first, times = np.zeros(1, dtype=np.intp), []
    for kept in (True, False):
        began = perf_counter()
        observe_all(game, np.full((1, game.n_players), kept), first)
        times.append((perf_counter() - began) * game.n_sequences)
    full, empty = times
    return Seconds(max(0.0, full - empty) / game.n_players, empty)


def _share(walker: Walker, middle: int) -> float:
    """How the mean layer's weights compare with those of the two that are timed."""
    layers = walker.layers.stack.layers
    if len(layers) != len(walker.layers.plays):
        return 1.0
    sizes = np.array([sum(p.numel() for p in one.parameters()) for one in layers])
    return float(sizes.mean() / max(sizes[[max(0, middle - 1), middle]].mean(), 1))


def _seconds(call: Callable[[], object], state: Tensor) -> float:
    """The median of a few calls, after one that may compile or load kernels."""
    took: list[float] = []
    for _ in range(TURNS + 1):
        _wait_for(state)
        began = perf_counter()
        call()
        _wait_for(state)
        took.append(perf_counter() - began)
        if took[-1] > ENOUGH and state.device.type == "cpu":
            return took[-1]
    return median(took[1:])


def _wait_for(state: Tensor) -> None:
    if state.device.type == "cuda":
        torch.cuda.synchronize(state.device)
