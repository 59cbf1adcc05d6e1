"""Time the estimate: every player's marginal contribution at many base coalitions.

The paper's surrogate is asked for f(m ∪ i) − f(m \\ i) at 80,000 base coalitions of 32 players.
Ours does it on the network's pre-activations, all players at once; beside it the loop over single
rows that the published code uses, timed on 20,000 calls and scaled to its 80,000 × 32 × 2.

    python benchmarks/estimate.py
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy

from coterie.game.designs import draw_distinct
from coterie.game.published import paper_sizes
from coterie.game.surrogates import switched_marginals
from coterie.game.surrogates.paper import PaperNetwork

N_PLAYERS, N_BASE, REPEATS, SINGLE_CALLS = 32, 80_000, 7, 20_000


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    base = rng.random((N_BASE, N_PLAYERS)).argsort(axis=1) < rng.choice(
        paper_sizes(N_PLAYERS), size=(N_BASE, 1)
    )
    known = draw_distinct(N_PLAYERS, 24, 600, rng=rng).coalitions
    network = PaperNetwork(epochs=30).fit(known, rng.random(len(known)), rng=rng)

    ours = [seconds(lambda: network.marginals(base)) for _ in range(REPEATS)]
    twice = [seconds(lambda: switched_marginals(network.predict, base)) for _ in range(3)]
    single = seconds(lambda: [network.predict(base[row : row + 1]) for row in range(SINGLE_CALLS)])
    loop = single / SINGLE_CALLS * N_BASE * N_PLAYERS * 2
    gap = np.abs(
        network.marginals(base[:2_000]) - switched_marginals(network.predict, base[:2_000])
    ).max()

    fast = statistics.median(ours)
    print(f"machine   {platform.machine()}, {len(os.sched_getaffinity(0))} cores, {cpu()}")
    print(
        f"versions  python {platform.python_version()}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}; float32"
    )
    print(f"asked     {N_BASE:,} base coalitions × {N_PLAYERS} players, both ways")
    print(f"ours      {fast:8.3f} s   median of {REPEATS}, from {min(ours):.3f} to {max(ours):.3f}")
    print(
        f"batched   {statistics.median(twice):8.3f} s   median of 3: predict asked twice a player"
    )
    print(f"one row   {loop:8.0f} s   {SINGLE_CALLS:,} calls took {single:.2f} s, scaled")
    print(f"ratio     {loop / fast:8.0f}")
    print(f"largest difference between the first two: {gap:.1e}")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            return next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        return "processor unknown"


if __name__ == "__main__":
    main()
