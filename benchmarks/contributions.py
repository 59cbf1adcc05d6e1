"""Shapley values against exact ones, at equal numbers of evaluations; ours and shapiq's.

    python benchmarks/contributions.py --tables DIR [--seeds 40] [--budgets 100,400,1600]

The game is the first of `front.py`: 12 layers of the reference model, all 4,096 coalitions known; a
value is minus the mean loss. Relative error is that of the whole vector; coverage is the share of
players whose 95 % interval holds the exact value. Then, fidelity of the surrogates against budget,
design and calibration size.
"""

import argparse
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from front import REFERENCE, game_of_table, table_of

from coterie.game.coalitions import Coalitions, Matrix, ValueFunction, Vector
from coterie.game.designs import draw_strata, enumerate_all
from coterie.game.estimation.controlled import controlled_semivalue
from coterie.game.estimation.interactions import every_size
from coterie.game.estimation.regression import kernel_shapley, sliding_window_shapley
from coterie.game.estimation.sampling import permutation_shapley, sampled
from coterie.game.estimation.semivalues import Estimate, exact, shapley
from coterie.game.published import paper_sizes
from coterie.game.stability import rank_overlaps
from coterie.game.surrogates import Surrogate
from coterie.game.surrogates.explained import ShapleyRegression
from coterie.game.surrogates.fidelity import Agreement, agreement
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.surrogates.process import Process
from coterie.verbs.values.request import ValuesRequest

N = 12

Estimator = Callable[[ValueFunction, int, np.random.Generator], Estimate | Vector]
"""Estimates from a value function and a dial, which sets how much is asked."""


def main() -> None:
    """Print everything as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--budgets", default="100,400,1600")
    parser.add_argument("--game", choices=REFERENCE, default=next(iter(REFERENCE)))
    parser.add_argument("--figure", type=Path, help="draw the errors here (needs matplotlib)")
    options = parser.parse_args()
    budgets = [int(part) for part in options.budgets.split(",")]
    losses = table_of(
        options.game, options.tables, ValuesRequest("reference"), REFERENCE[options.game]
    )
    errors = accuracy(losses, budgets, options.seeds)
    if options.figure is not None:
        draw(errors, options.figure)
    by_budget(losses)
    by_calibration(losses)


def estimators() -> dict[str, Estimator]:
    """Every estimator by name; shapiq's where it is installed."""
    found: dict[str, Estimator] = {
        "stratified": lambda v, d, rng: sampled(v, N, shapley(N), draws=d + 1, rng=rng),
        "permutations": lambda v, d, rng: permutation_shapley(v, N, draws=d + 1, rng=rng),
        "paired kernel": lambda v, d, rng: kernel_shapley(v, N, draws=d, rng=rng),
        "pairwise as control": lambda v, d, rng: controlled(v, d, Pairwise(), rng),
    }
    if importlib.util.find_spec("shapiq") is None:
        print("shapiq is not installed, so it is left out: pip install shapiq\n")
        return found
    from shapiq.approximator import KernelSHAP, PermutationSamplingSV

    def seeded(rng: np.random.Generator) -> int:
        return int(rng.integers(2**31))

    found["shapiq, paired KernelSHAP"] = lambda v, d, rng: first_order(
        KernelSHAP(N, pairing_trick=True, random_state=seeded(rng)).approximate(max(d, N + 2), v)
    )
    found["shapiq, permutations"] = lambda v, d, rng: first_order(
        PermutationSamplingSV(N, random_state=seeded(rng)).approximate(max(d, N + 2), v)
    )
    return found


def controlled(
    value: ValueFunction, dial: int, surrogate: Surrogate, rng: np.random.Generator
) -> Estimate:
    """Shapley values with a surrogate as control variate: bases of every size alike."""
    strata = every_size(N, max(N + 1, dial), rng=rng)
    return controlled_semivalue(value, strata, surrogate, rng=rng)


def first_order(found) -> Vector:
    """The Shapley values in what shapiq returns."""
    return np.asarray(found.get_n_order_values(1), dtype=np.float64)


def accuracy(losses: Matrix, budgets: Sequence[int], seeds: int) -> dict[str, list[float]]:
    """Print error, rank correlation and coverage; return the errors by estimator."""
    game = game_of_table(losses)
    true = exact(game.value(enumerate_all(N)), shapley(N)).values
    print(f"exact: {np.round(true, 3).tolist()} nats\n")
    print("| estimator | budget | evaluations | relative error | Spearman | coverage |")
    print("|---|---|---|---|---|---|")
    errors: dict[str, list[float]] = {}
    for name, estimator in estimators().items():
        for budget in budgets:
            dial = affordable(estimator, budget)
            if dial is None:
                print(f"| {name} | {budget} | cannot ask so little | – | – | – |")
                errors.setdefault(name, []).append(np.nan)
                continue
            rows = [one(estimator, game.value, dial, seed, true) for seed in range(seeds)]
            asked, off, rank, covered = np.mean(rows, axis=0)
            told = "–" if np.isnan(covered) else f"{covered:.3f}"
            print(
                f"| {name} | {budget} | {asked:.0f} | {off:.4f} | {rank:.3f} | {told} |", flush=True
            )
            errors.setdefault(name, []).append(float(off))
    print()
    windows(game.value, true)
    return errors


def windows(value: ValueFunction, true: Vector) -> None:
    """Print how the sliding-window approximation (arXiv:2505.01731) ranks, and what it asks."""
    print("| window | coalitions, of 4,096 | Spearman with exact | without the first player |")
    print("|---|---|---|---|")
    for window in (1, 3, 5, 7, 9, 11, 12):
        counted, asked = counting(value)
        found = sliding_window_shapley(counted, N, window=window).values
        ranks = [float(rank_overlaps(np.array([found[k:], true[k:]]))[0]) for k in (0, 1)]
        print(f"| {window} | {len(asked)} | {ranks[0]:.3f} | {ranks[1]:.3f} |")
    print()


def one(
    estimator: Estimator, value: ValueFunction, dial: int, seed: int, true: Vector
) -> tuple[float, float, float, float]:
    """Distinct evaluations, relative error, rank correlation and coverage of one run."""
    counted, asked = counting(value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapiq remarks on budgets
        found = estimator(counted, dial, np.random.default_rng([seed, 6]))
    covered = np.nan
    values = found
    if isinstance(found, Estimate):
        values = found.values
        low, high = found.interval()
        covered = float(((low - 1e-12 <= true) & (true <= high + 1e-12)).mean())
    off = float(np.linalg.norm(values - true) / np.linalg.norm(true))
    return len(asked), off, float(rank_overlaps(np.array([values, true]))[0]), covered


def counting(value: ValueFunction) -> tuple[ValueFunction, set[bytes]]:
    """A value function that notes what it is asked, and the distinct coalitions asked so far."""
    asked: set[bytes] = set()

    def counted(coalitions: Coalitions) -> Vector:
        coalitions = np.atleast_2d(np.asarray(coalitions, dtype=bool))  # shapiq asks single rows
        asked.update(row.tobytes() for row in np.packbits(coalitions, axis=1))
        return value(coalitions)

    return counted, asked


def affordable(estimator: Estimator, budget: int) -> int | None:
    """The largest dial at which the estimator asks for no more than the budget."""
    nothing = np.ones(N)

    def cost(dial: int) -> float:
        def flat(coalitions: Coalitions) -> Vector:
            return np.asarray(coalitions @ nothing, dtype=np.float64)

        return one(estimator, flat, dial, 0, nothing)[0]

    if cost(1) > budget:
        return None
    low, high = 1, 2 * budget
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return low


def by_budget(losses: Matrix) -> None:
    """Held-out agreement against budget, for two designs."""
    game, rng = game_of_table(losses), np.random.default_rng(7)
    designs = {
        "the paper's sizes": draw_strata(N, paper_sizes(N), 1_000, rng=rng),
        "every size": draw_strata(N, range(N + 1), 1_500, rng=rng),
    }
    budgets = (30, 60, 120, 240, 480)
    print("R² / Spearman on a held-out quarter, value −loss\n")
    print(f"| design | surrogate | {' | '.join(map(str, budgets))} |")
    print("|---|---|" + "---|" * len(budgets))
    for name, strata in designs.items():
        coalitions = np.concatenate([stratum.coalitions for stratum in strata])
        values = game.value(coalitions)
        for surrogate in (Pairwise(), Process(), ShapleyRegression(), PaperNetwork(epochs=2_000)):
            targets = np.exp(values - values.max()) if "network" in surrogate.name else values
            seeded = np.random.default_rng(8)
            curve = learning_curve(surrogate, coalitions, targets, budgets, seeded)
            cells = [f"{told.r2:.3f} / {told.spearman:.3f}" for told in curve]
            cells += ["–"] * (len(budgets) - len(cells))
            print(f"| {name} | {surrogate.name} | {' | '.join(cells)} |", flush=True)
    print()


def learning_curve(
    surrogate: Surrogate,
    coalitions: Coalitions,
    targets: Vector,
    budgets: Sequence[int],
    rng: np.random.Generator,
) -> list[Agreement]:
    """Agreement on a quarter set aside, for fits to more and more of the others."""
    aside, rest = np.split(rng.permutation(len(targets)), [round(len(targets) / 4)])
    curve = []
    for rows in (rest[:budget] for budget in budgets if budget <= len(rest)):
        fitted = surrogate.fit(coalitions[rows], targets[rows], rng=rng)
        curve.append(agreement(targets[aside], fitted.predict(coalitions[aside])))
    return curve


def by_calibration(losses: Matrix) -> None:
    """Agreement with texts that were not read, against how many were, at 240 coalitions."""
    rng, n = np.random.default_rng(9), losses.shape[1]
    strata = draw_strata(N, paper_sizes(N), 240, rng=rng)
    coalitions = np.concatenate([stratum.coalitions for stratum in strata])
    rows = coalitions @ (1 << np.arange(N))
    around = np.concatenate([s.coalitions for s in draw_strata(N, (10, 9, 8), 400, rng=rng)])
    others = around @ (1 << np.arange(N))
    print("Spearman with the mean loss on texts not read, coalitions of 8 to 10 layers\n")
    print("| sequences read | pairwise ridge | the values themselves |\n|---|---|---|")
    for read in (1, 2, 4, 6, 8):
        told = []
        for _ in range(20):
            order = rng.permutation(n)
            some, rest = order[:read], order[read:]
            fitted = Pairwise().fit(coalitions, -losses[rows][:, some].mean(axis=1), rng=rng)
            unread = -losses[others][:, rest].mean(axis=1)
            guess = agreement(unread, fitted.predict(around)).spearman
            seen = agreement(unread, -losses[others][:, some].mean(axis=1)).spearman
            told.append((guess, seen))
        by_surrogate, themselves = np.mean(told, axis=0)
        print(f"| {read} | {by_surrogate:.3f} | {themselves:.3f} |", flush=True)


def draw(errors: dict[str, list[float]], path: Path) -> None:
    """Relative error of every estimator against its budget."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, found in errors.items():
        axes.plot(range(len(found)), found, marker="o", label=name)
    axes.set(yscale="log", xlabel="budget, in the order given", ylabel="relative error")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
