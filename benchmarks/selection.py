"""Which layers to cut: the paper's method, the plain searches and guided search, one evaluator.

    python benchmarks/selection.py [--remove 2,4,6] [--seeds 3]

On the reference model. Every method chooses on the same calibration texts (10 × 128 tokens) and is
judged on the same held-out texts; the cost is layer-tokens ASKED, each method charged as if alone.
The paper's method asks its whole design once for all sizes; guided search may ask a tenth of that.
"""

import argparse
import platform
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from coterie.evaluation.planning import plan
from coterie.game.coalitions import Coalition, observe_all
from coterie.game.search import Ledger, by_race, contiguous, evolve, greedy, guided, one_shot
from coterie.game.utilities import clustered_mean, floor_nll
from coterie.pipeline.opening import Opened, Silent, opened, prepare
from coterie.pipeline.provenance import versions
from coterie.pipeline.request import Request
from coterie.study import Settings, run_study

Chosen = dict[int, Coalition]
"""The coalition a method chose for each number of layers removed."""


def main() -> None:
    """Print one table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--remove", default="2,4,6")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    removals = [int(part) for part in options.remove.split(",")]
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, float32, {versions()}\n")
    prepared = prepare(Request("reference"), progress=Silent())
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(prepared, store=Path(folder) / "s.sqlite", progress=Silent()) as table,
    ):
        rows = []
        for seed in range(options.seeds):
            whole = []
            for name, method in (("paper", by_paper), ("guided, a tenth", by_guided)):
                chosen, cost = method(table, removals, seed, whole[0] / 10 if whole else 0.0)
                whole.append(cost)
                rows.append((f"{name}, seed {seed}", chosen, cost))
            chosen, cost = by_evolution(table, removals, seed, whole[0] / 10)
            rows.append((f"evolution, a tenth, seed {seed}", chosen, cost))
        for name, plain in (("greedy", greedy), ("one-shot", one_shot), ("contiguous", contiguous)):
            ledger = ledger_of(table)
            answers = plain(ledger, [table.stack.n_players - r for r in removals])
            rows.append((name, by_size(answers, table.stack.n_players), cost_of(ledger, table)))
        report(table, removals, rows)


def by_paper(table: Opened, removals: list[int], seed: int, _: float) -> tuple[Chosen, float]:
    """The published design and network, once for all sizes."""
    played, n = table.calibration, table.stack.n_players
    settings = replace(Settings.published(n), replicates=2)
    study = run_study(
        played.game,
        settings,
        played.texts.documents,
        played.engine.vocabulary,
        rng=np.random.default_rng([seed, 2]),
        step=lambda *_: None,
    )
    work = plan(study.asked, played.texts.n_sequences, played.texts.length)
    return {r: study.keep(n - r) for r in removals}, work.layer_tokens_asked


def by_guided(table: Opened, removals: list[int], seed: int, budget: float) -> tuple[Chosen, float]:
    """Guided search for all sizes together, racing, at most so many layer-tokens."""
    ledger, n = ledger_of(table), table.stack.n_players
    found = guided(
        ledger,
        [n - r for r in removals],
        budget=2_000,
        most_layer_sequences=budget / table.calibration.texts.length,
        judge=by_race,
        rng=np.random.default_rng([seed, 3]),
    )
    return by_size(found.answers, n), cost_of(ledger, table)


def by_evolution(
    table: Opened, removals: list[int], seed: int, budget: float
) -> tuple[Chosen, float]:
    """EvoPress' evolution, one run a size, the layer-tokens shared out equally."""
    n, texts = table.stack.n_players, table.calibration.texts
    chosen, cost = {}, 0.0
    for r in removals:
        ledger = ledger_of(table)
        share = budget / len(removals) / texts.length
        rng = np.random.default_rng([seed, 4, r])
        found = evolve(ledger, n - r, most_layer_sequences=share, rng=rng)
        chosen[r] = found.coalition
        cost += cost_of(ledger, table)
    return chosen, cost


def ledger_of(table: Opened) -> Ledger:
    """A fresh account with the game on the calibration texts."""
    played = table.calibration
    return Ledger(played.game, floor=floor_nll(played.engine.vocabulary))


def cost_of(ledger: Ledger, table: Opened) -> float:
    """Layer-tokens asked."""
    return float(ledger.layer_sequences * table.calibration.texts.length)


def by_size(answers: list, n_players: int) -> Chosen:
    """Answers by the number of players removed."""
    return {n_players - int(answer.coalition.sum()): answer.coalition for answer in answers}


def report(table: Opened, removals: list[int], rows: list[tuple[str, Chosen, float]]) -> None:
    """Judge everything on the held-out texts, against the paper's first seed."""
    held_out = table.play_held_out()
    coalitions = np.array([chosen[r] for _, chosen, _ in rows for r in removals])
    losses = observe_all(held_out.game, coalitions).nll.reshape(len(rows), len(removals), -1)
    values = observe_all(table.calibration.game, coalitions).nll.mean(axis=1)
    values = values.reshape(len(rows), len(removals))
    documents = held_out.texts.documents
    heads = " | ".join(f"−{r}: calibration, held-out, − paper" for r in removals)
    print(f"| method | M layer-tokens asked | {heads} |\n|---|---|{'---|' * len(removals)}")
    for (name, _, cost), loss, value in zip(rows, losses, values, strict=True):
        cells = []
        for k in range(len(removals)):
            change, error = clustered_mean(loss[k] - losses[0, k], documents)
            cells.append(f"{value[k]:.4f}, {loss[k].mean():.4f}, {change:+.4f} ± {error:.4f}")
        print(f"| {name} | {cost / 1e6:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
