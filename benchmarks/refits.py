"""Seconds of the paper's surrogate and its refits: 6,400 coalitions of 30 players.

    python benchmarks/refits.py [OBSERVED.npz] [--device cuda] [--whole]

"Before" is how the networks were trained until now: three axes of activations in six passes, 24
refits per source of error. It is timed over a tenth of the epochs and multiplied, unless --whole.
With OBSERVED.npz (see simulated_game.py) the published design observed on a real model is studied;
without it a synthetic game of the same size. Both columns are from one run; the load is printed.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from simulated_game import observed

from coterie.game.coalitions import observe_all
from coterie.game.designs import draw_strata
from coterie.game.estimation.contributions import (
    REPLICATES,
    Contributions,
    SemivaluePlan,
    contributions,
)
from coterie.game.estimation.refits import Sample
from coterie.game.published import paper_draws, published_sizes
from coterie.game.search.plain import cut_lowest
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.surrogates.training import Lessons, Trainer, Weights, chunks, cores, trained
from coterie.game.toy import layer_like
from coterie.game.utilities import UTILITIES

N_PLAYERS, DRAWS, N_TEXTS = 30, 6_400, 10
BEFORE = 24  # refits per source of error, as it was


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("observed", type=Path, nargs="?")
    asked.add_argument("--device", default="cpu")
    asked.add_argument("--whole", action="store_true", help="time all epochs of the old training")
    given = asked.parse_args()
    sample = synthetic() if given.observed is None else of_model(given.observed)
    n, cores = len(sample.coalitions), len(os.sched_getaffinity(0))
    print(f"{n} coalitions, {N_PLAYERS} players, {cores} cores, load {os.getloadavg()[0]:.1f}")
    network = PaperNetwork.as_long_as_published(n, paper_draws(N_PLAYERS))
    network = replace(network, trainer=trainer(given.device))
    share = 1 if given.whole else 10
    short = replace(network, epochs=network.epochs // share)
    old = timed("before", sample, replace(short, trainer=six_passes), BEFORE, share)
    timed("now", sample, network, REPLICATES, 1)
    new = old if share == 1 else timed("now, as short", sample, short, BEFORE, 1)
    values = [one.estimate.values for one in (old, new)]
    apart, most = np.abs(values[0] - values[1]).max(), np.abs(values[0]).max()
    print(f"contributions differ by {apart:.1e} at most; the largest is {most:.1e}")
    cuts = [[cut_lowest(v, keep) for keep in range(N_PLAYERS // 2, N_PLAYERS)] for v in values]
    print("cuts of 1 to 15 players are", "the same" if np.array_equal(*cuts) else "NOT the same")


def timed(
    name: str, sample: Sample, network: PaperNetwork, replicates: int, share: int
) -> Contributions:
    """Print the seconds of the whole estimate, times a share, and give it back."""
    plan = SemivaluePlan(published_sizes(N_PLAYERS, 0), replicates=replicates)
    training = np.zeros(2)

    def watched(lessons: Lessons) -> Weights:
        began = clocks()
        weights = network.trainer(lessons)
        training[:] += clocks() - began
        return weights

    began = clocks()
    found = contributions(
        sample, replace(network, trainer=watched), plan, rng=np.random.default_rng(0)
    )
    # Only the training was shortened: the rest is counted once.
    seconds, cpu = clocks() - began + (share - 1) * training
    print(
        f"{name:14} {seconds:7.1f} s, {cpu:7.1f} s of CPU, {replicates} refits per source of"
        f" error, load {os.getloadavg()[0]:.1f}"
    )
    return found


def clocks() -> np.ndarray:
    """Seconds of the wall, and seconds of all cores together."""
    return np.array([time.perf_counter(), time.process_time()])


def trainer(device: str) -> Trainer:
    """Where the networks are trained now."""
    if device == "cpu":
        return trained
    import torch

    from coterie.engine.training import trainer_on

    return trainer_on(torch.device(device))


def synthetic() -> Sample:
    """The published design on a made-up game of layers."""
    rng = np.random.default_rng(0)
    game = layer_like(N_PLAYERS, rng=rng, n_sequences=N_TEXTS)
    strata = draw_strata(N_PLAYERS, published_sizes(N_PLAYERS, 0), DRAWS, rng=rng)
    everyone = np.ones((1, N_PLAYERS), dtype=bool)
    seen = observe_all(game, np.concatenate([everyone, *(s.coalitions for s in strata)])).nll
    return Sample(strata, seen[1:], seen[0], np.arange(N_TEXTS), UTILITIES["ppl-ratio"].formula)


def of_model(path: Path) -> Sample:
    """What the published design saw of a real model: the coalitions of its sizes."""
    coalitions, losses = observed(path)
    ten = losses[:, -N_TEXTS:]
    whole = ~np.isnan(ten).any(axis=1)
    coalitions, ten = coalitions[whole], ten[whole]
    held = coalitions.sum(axis=1)
    strata, rows = [], []
    for size in published_sizes(N_PLAYERS, 0):
        rows.append(np.flatnonzero(held == size))
        drawn = draw_strata(N_PLAYERS, (size,), 2, rng=np.random.default_rng(0))[0]
        strata.append(replace(drawn, coalitions=coalitions[rows[-1]]))
    table = ten[np.concatenate(rows)]
    full = ten[held == N_PLAYERS]
    full = full[0] if len(full) else table.min(axis=0)
    return Sample(strata, table, full, np.arange(N_TEXTS), UTILITIES["ppl-ratio"].formula)


def six_passes(lessons: Lessons) -> Weights:
    """The training as it was, for comparison."""
    workers, n = cores(), len(lessons.rngs)
    parts = list(chunks(n, max(1, min(6, -(-n // workers)))))
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(lambda some: descend_in_six_passes(lessons[some]), parts))
    return Weights.over(np.concatenate([part.flat for part in done]), lessons.n_players)


def descend_in_six_passes(lessons: Lessons) -> Weights:
    """All epochs of some replicates; every step makes its arrays anew."""
    weights = lessons.start()
    speed = np.zeros_like(weights.flat)
    for epoch, (rows, wanted) in enumerate(lessons.orders()):
        rate = np.float32(lessons.schedule.rate_in(epoch))
        for step in lessons.steps():
            slope = slopes_in_six_passes(weights, lessons.inputs[rows[:, step]], wanted[:, step])
            speed *= np.float32(lessons.schedule.momentum)
            speed += slope
            weights.flat[...] -= rate * speed
    return weights


def slopes_in_six_passes(weights: Weights, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The gradient of the mean squared error, ``(n_replicates, n_weights)``."""
    inputs = inputs[:, :, :-1]
    across = inputs.transpose(0, 2, 1)
    before = np.matmul(weights.inner[:, :, :-1], across)
    before += weights.inner[:, :, -1:]
    bend = np.minimum(before, 0)
    np.exp(bend, out=bend)
    hidden = np.maximum(before, 0, out=before)
    hidden += bend
    along = weights.outer[:, None, :]
    offset = weights.outer_bias - weights.outer.sum(axis=1, keepdims=True)
    output = 1 / (1 + np.exp(-(np.matmul(along, hidden)[:, 0] + offset)))
    error = (2 / targets.shape[1]) * (output - targets) * output * (1 - output)
    error = error[:, :, None].astype(np.float32)
    slope = Weights.empty(len(weights.flat), inputs.shape[2])
    slope.outer_bias[...] = error.sum(axis=1)
    slope.outer[...] = np.matmul(hidden, error)[..., 0] - slope.outer_bias
    slope.inner[:, :, :-1] = np.matmul(bend, inputs * error)
    slope.inner[:, :, -1] = np.matmul(bend, error)[..., 0]
    slope.inner[...] *= weights.outer[:, :, None]
    return slope.flat


if __name__ == "__main__":
    main()
