"""Do designs whose coalitions share prefixes estimate more for the same work? A measured answer.

Every coalition of one size is observed once, so the truth is known: the least-squares effect of
each player at that size. Each design then draws from the table, many seeds each, and pays for the
layer executions its own trie takes, and for the head of every coalition.

The first three leave every coalition of the size equally likely, so none is biased:
- uniform: independent draws;
- branched at s, m each: draw the first s players of a coalition, then m different completions;
- crossed at s, m each: as branched, but all beginnings that cut equally many share completions;
- informative per cost: of a few uniform candidates at a time, the one that adds most information
  on the effects for the work it adds. It favours late cuts, so it is unbiased only for additive
  games; what that costs is part of its error here.

Error is the root mean square over players and seeds; efficiency is the work uniform draws would
need for the same error, over the work spent. Above 1 a design pays.

    python benchmarks/prefixes.py [--folder MODEL] [--cut 4] [--output FILE]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import Coalitions, Vector, observe_all
from coterie.game.designs import all_of_size, distinct
from coterie.game.prefixes import executions, prefix_order
from coterie.models.files.places import reference_folder
from coterie.models.reference.text import stdlib_documents

N_SEQUENCES, LENGTH, SEEDS = 4, 128, 100
BUDGETS = (60, 120, 240, 480)

Design = Callable[[int, np.random.Generator], Coalitions]


def main() -> None:
    """Observe all coalitions of the size, then compare the designs on the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    if options.output.exists():
        table = json.loads(options.output.read_text())
    else:
        table = observed(options.folder, options.cut)
        options.output.write_text(json.dumps(table))
    coalitions = np.array(table["coalitions"], dtype=bool)
    nll = np.array(table["nll"])
    truth = effects(coalitions, nll)
    lookup = {row.tobytes(): value for row, value in zip(coalitions, nll, strict=True)}
    n, size = coalitions.shape[1], int(coalitions[0].sum())
    head = table["head_in_layers"]
    print(
        f"{n} layers, {size} kept: {len(coalitions)} coalitions; effects spread {truth.std():.4f}"
    )
    print(f"a head costs {head:.2f} layers; {SEEDS} seeds; error in nats per token\n")
    print("| design | coalitions | layers run | work | error | efficiency |")
    print("|---|---|---|---|---|---|")
    baseline = None
    for name, design in designs(n, size, head):
        rows = [measured(design, k, lookup, truth, head) for k in BUDGETS]
        if baseline is None:
            baseline = rows
        for count, layers, work, error in rows:
            needed = work_for(error, baseline)
            print(
                f"| {name} | {count:.0f} | {layers:.0f} | {work:.0f} | {error:.5f} |"
                f" {needed / work:.2f} |"
            )


def designs(n: int, size: int, head: float) -> list[tuple[str, Design]]:
    """The designs compared, uniform draws first."""
    compared: list[tuple[str, Design]] = [("uniform", uniform(n, size))]
    for split in (n // 4, n // 2, 3 * n // 4):
        for each in (2, 4, 8):
            compared.append((f"branched at {split}, {each} each", branched(n, size, split, each)))
    compared.append((f"crossed at {n // 2}, 4 each", crossed(n, size, n // 2, 4)))
    compared.append((f"crossed at {n // 2}, 8 each", crossed(n, size, n // 2, 8)))
    compared.append(("informative per cost", informative(n, size, head)))
    return compared


def uniform(n: int, size: int) -> Design:
    """Independent draws."""
    return lambda count, rng: rng.permuted(np.tile(np.arange(n) < size, (count, 1)), axis=1)


def branched(n: int, size: int, split: int, each: int) -> Design:
    """Beginnings of uniform draws, each with several completions of its own."""

    def draw(count: int, rng: np.random.Generator) -> Coalitions:
        begun = np.repeat(uniform(n, size)(-(-count // each), rng), each, axis=0)[:count]
        begun[:, split:] = rng.permuted(begun[:, split:], axis=1)
        return begun

    return draw


def crossed(n: int, size: int, split: int, each: int) -> Design:
    """Beginnings of uniform draws; those that cut equally many share their completions."""

    def draw(count: int, rng: np.random.Generator) -> Coalitions:
        begun = uniform(n, size)(-(-count // each), rng)
        shared: dict[int, Coalitions] = {}
        rows = []
        for row in begun:
            kept = int(row[split:].sum())
            if kept not in shared:
                shared[kept] = uniform(n - split, kept)(each, rng)
            block = np.repeat(row[None], each, axis=0)
            block[:, split:] = shared[kept]
            rows.append(block)
        return np.concatenate(rows)[:count]

    return draw


def informative(n: int, size: int, head: float, candidates: int = 16) -> Design:
    """Take, of a few candidates at a time, the most informative for the work it adds."""

    def draw(count: int, rng: np.random.Generator) -> Coalitions:
        spread = np.eye(n)  # inverse of the information so far, from one unit of prior
        known: set[bytes] = set()
        rows = []
        for _ in range(count):
            pool = uniform(n, size)(candidates, rng)
            centred = pool - size / n
            gains = np.log1p(np.einsum("ij,jk,ik->i", centred, spread, centred))
            costs = [head + sum(end not in known for end in _ends(row)) for row in pool]
            best = int(np.argmax(gains / np.array(costs)))
            known |= _ends(pool[best])
            moved = spread @ centred[best]
            spread -= np.outer(moved, moved) / (1 + centred[best] @ moved)
            rows.append(pool[best])
        return np.array(rows)

    return draw


def _ends(row: NDArray[np.bool_]) -> set[bytes]:
    """The prefixes of one coalition that end in a kept player."""
    return {row[: at + 1].tobytes() for at in np.flatnonzero(row)}


def measured(
    design: Design, count: int, lookup: dict[bytes, float], truth: Vector, head: float
) -> tuple[float, float, float, float]:
    """Mean distinct coalitions, layers run and work of a design, and its error."""
    spent, squares = [], []
    for seed in range(SEEDS):
        drawn = design(count, np.random.default_rng(seed))
        once = drawn[distinct(drawn)[0]]
        layers = int(executions(once[prefix_order(once)]).sum())
        spent.append((len(once), layers, layers + head * len(once)))
        values = np.array([lookup[row.tobytes()] for row in once])
        squares.append(np.square(effects(once, values) - truth).mean())
    counted, layers_run, work = np.mean(spent, axis=0)
    return counted, layers_run, work, float(np.sqrt(np.mean(squares)))


def effects(coalitions: Coalitions, values: Vector) -> Vector:
    """Least-squares effect of each player at one size; their sum is not identified and set to 0."""
    centred = coalitions - coalitions.mean(axis=0)
    # A trace of ridge keeps small samples solvable; it is far below the noise.
    gram = centred.T @ centred + 1e-3 * np.eye(coalitions.shape[1])
    solved = np.linalg.solve(gram, centred.T @ (values - values.mean()))
    return solved - solved.mean()


def work_for(error: float, baseline: list[tuple[float, float, float, float]]) -> float:
    """The work uniform draws need for an error, between the budgets measured, on a log scale."""
    works, errors = (np.log([row[field] for row in baseline]) for field in (2, 3))
    slope, level = np.polyfit(errors, works, 1)
    return float(np.exp(slope * np.log(error) + level))


def observed(folder: Path, cut: int) -> dict[str, object]:
    """Losses of every coalition that cuts so many layers of a model, on held-out library text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = [tokenizer(text)["input_ids"] for _, text in stdlib_documents("calibration")]
    long = [document[:LENGTH] for document in ids if len(document) >= LENGTH]
    tokens = np.array(long[:: max(1, len(long) // N_SEQUENCES)][:N_SEQUENCES])
    game = ModelGame(model, tokens)
    coalitions = all_of_size(game.n_players, game.n_players - cut)
    nll: NDArray[np.float64] = observe_all(game, coalitions).nll.mean(axis=1)
    config = model.config
    layer = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
    return {
        "coalitions": coalitions.astype(int).tolist(),
        "nll": nll.tolist(),
        "head_in_layers": config.hidden_size * config.vocab_size / layer,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare designs that share prefixes.")
    parser.add_argument("--folder", type=Path, default=reference_folder(), help="the model")
    parser.add_argument("--cut", type=int, default=4, help="layers cut")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("prefixes.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
