"""Guided search on a game simulated from a real model: what it finds, asks, executes and takes.

    python benchmarks/simulated_game.py OBSERVED.npz GAME.npz
    python benchmarks/guided.py GAME.npz [--seeds 10] [--remove 4,8,11]

All methods answer the sizes in one run on the 32 texts of the game. "Above" is the mean loss above
the best coalition known of that size: the best that any run here and 60 climbs by swaps found.
Executed layers × texts share prefixes within one question, as the engine does; evolution plays the
published settings, and once more within the work that guided search executed. Own seconds, of CPU,
are all that is not the game's; "gpu" is what a game that answers 450 coalitions in 1.2 s takes.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from simulated_game import SimulatedGame

from coterie.game.coalitions import Block, Coalitions, Indices
from coterie.game.designs import draw_distinct
from coterie.game.prefixes import executions, prefix_order
from coterie.game.search.evolve import evolve
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SEARCH_METHODS
from coterie.game.search.plain import greedy, neighbours
from coterie.game.search.task import SearchTask

SHARING = 1.31  # what evolution asks for every layer it executes, by this script's own table
GPU_SECONDS = 1.2 / 450 / 32  # of one coalition on one text


@dataclass
class Counted:
    """A game that counts what it was asked, what an engine would execute, and its own seconds."""

    inner: SimulatedGame
    executed: int = 0
    observations: int = 0
    seconds: float = 0.0
    n_players: int = field(init=False)
    n_sequences: int = field(init=False)

    def __post_init__(self) -> None:
        """Take the shape of the inner game."""
        self.n_players, self.n_sequences = self.inner.n_players, self.inner.n_sequences

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe as the inner game does, and count."""
        began = time.process_time()
        blocks = list(self.inner.observe(coalitions, sequences))
        self.seconds += time.process_time() - began
        ran = int(executions(coalitions[prefix_order(coalitions)]).sum())
        self.executed += ran * len(sequences)
        self.observations += len(coalitions) * len(sequences)
        return iter(blocks)


@dataclass(frozen=True)
class Run:
    """One run of a method."""

    losses: np.ndarray
    """Of its answers, ``(n_sizes,)``."""
    coalitions: int
    asked: int
    executed: int
    own: float
    gpu: float


def run(game: SimulatedGame, keeps: tuple[int, ...], play: Callable[[Ledger], Coalitions]) -> Run:
    """Play a method on an account of its own."""
    counted = Counted(game)
    ledger = Ledger(counted, floor=np.log(49152))
    began = time.process_time()
    answers = play(ledger)
    own = time.process_time() - began - counted.seconds
    losses = np.array([game.losses(row[None]).mean() for row in answers])
    gpu = counted.observations * GPU_SECONDS
    assert tuple(answers.sum(axis=1)) == keeps
    return Run(losses, ledger.n_asked, ledger.layer_sequences, counted.executed, own, gpu)


def by_greedy(keeps: tuple[int, ...]) -> Callable[[Ledger], Coalitions]:
    """SLEB's descent."""
    return lambda ledger: np.array([a.coalition for a in greedy(ledger, keeps)])


def by_guided(keeps: tuple[int, ...], seed: int) -> Callable[[Ledger], Coalitions]:
    """Guided search as `prune` plays it by default."""
    task = SearchTask(30, keeps, seed=seed)
    return lambda ledger: np.array(
        [a.coalition for a in SEARCH_METHODS["guided"].play(ledger, task).answers[: len(keeps)]]
    )


def by_evolution(
    keeps: tuple[int, ...], seed: int, most: float = np.inf
) -> Callable[[Ledger], Coalitions]:
    """Evolution at its published settings, or until an account of executed work is spent."""

    def play(ledger: Ledger) -> Coalitions:
        answers = []
        for number, keep in enumerate(keeps):
            rng = np.random.default_rng([seed, number])
            until = most if most == np.inf else _asked_for(most, len(keeps), ledger)
            answers.append(evolve(ledger, keep, most_layer_sequences=until, rng=rng).coalition)
        return np.array(answers)

    return play


def _asked_for(executed: float, n_sizes: int, ledger: Ledger) -> float:
    """Layers × texts that evolution may ask for about its share of executed work."""
    return ledger.layer_sequences + SHARING * executed / n_sizes


def best_known(game: SimulatedGame, keeps: tuple[int, ...], seeds: int = 60) -> np.ndarray:
    """The lowest loss of each size that climbs by swaps find from many starts."""
    best = []
    for keep in keeps:
        starts = draw_distinct(30, keep, seeds, rng=np.random.default_rng(9)).coalitions
        found = []
        for current in starts:
            value = game.losses(current[None]).mean()
            while True:
                around = neighbours(current)
                losses = game.losses(around).mean(axis=1)
                if losses.min() >= value:
                    break
                current, value = around[losses.argmin()], losses.min()
            found.append(value)
        best.append(min(found))
    return np.array(best)


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("game", type=Path)
    asked.add_argument("--seeds", type=int, default=10)
    asked.add_argument("--remove", default="4,8,11")
    asked.add_argument("--only", default="greedy,guided,evolution,evolution as dear")
    given = asked.parse_args()
    game = SimulatedGame.read(given.game)
    keeps = tuple(30 - int(k) for k in given.remove.split(","))
    only, seeds = given.only.split(","), range(given.seeds)
    runs: dict[str, list[Run]] = {}
    if "greedy" in only:
        runs["greedy"] = [run(game, keeps, by_greedy(keeps))]
    if "guided" in only:
        runs["guided"] = [run(game, keeps, by_guided(keeps, seed)) for seed in seeds]
    if "evolution" in only:
        runs["evolution"] = [run(game, keeps, by_evolution(keeps, seed)) for seed in seeds]
    if "evolution as dear" in only and "guided" in runs:
        most = float(np.mean([one.executed for one in runs["guided"]]))
        runs["evolution as dear"] = [
            run(game, keeps, by_evolution(keeps, seed, most)) for seed in seeds
        ]
    found = [one.losses for many in runs.values() for one in many]
    best = np.minimum(best_known(game, keeps), np.min(found, axis=0))
    report(runs, keeps, best)


def report(runs: dict[str, list[Run]], keeps: tuple[int, ...], best: np.ndarray) -> None:
    """Print what each method found, and what that took."""
    print(f"load {os.getloadavg()[0]:.1f}; best known {np.round(best, 4).tolist()}")
    above = [f"above at {30 - keep} (best found)" for keep in keeps]
    print(f"{'method':18}{''.join(f'{name:>25}' for name in above)}", end="")
    print(f"{'coalitions':>12}{'asked':>10}{'executed':>10}{'own s':>8}{'gpu s':>7}")
    for name, many in runs.items():
        losses = np.array([one.losses for one in many]) - best
        reached = (losses < 1e-6).sum(axis=0)
        cells = [
            f"{mean:.4f} ({hits} of {len(many)})"
            for mean, hits in zip(losses.mean(axis=0), reached, strict=True)
        ]
        print(f"{name:18}{''.join(f'{cell:>25}' for cell in cells)}", end="")
        of = [np.mean([getattr(one, key) for one in many]) for key in COLUMNS]
        print(f"{of[0]:12.0f}{of[1]:10.0f}{of[2]:10.0f}{of[3]:8.2f}{of[4]:7.2f}")


COLUMNS = ("coalitions", "asked", "executed", "own", "gpu")


if __name__ == "__main__":
    main()
