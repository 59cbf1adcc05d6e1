"""Which layers to cut: the paper's method, greedy, evolution and guided search, one evaluator.

    python benchmarks/selection.py --work DIR [--model DIR --calibration FILE --held-out FILE]

Every method chooses on the same calibration texts and is judged on the same held-out texts, whole
documents apart. The cost is layer-tokens ASKED, each method charged as if alone. The paper's method
asks its whole design on every text; guided search may ask a tenth of that and never more, the
decision between its finalists on a second set of texts included, and so may evolution. Plain
answers cost what they cost; where that is more, a line says so. The best known coalition is the
best of its size that anyone has asked about on every calibration text.

DIR keeps every observation and every answer: a run that was stopped goes on where it was.
"""

import argparse
import csv
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from coterie.engine.cost import plan
from coterie.game.coalitions import (
    Coalition,
    Indices,
    Vector,
    from_text,
    observe_all,
    sizes,
    to_text,
)
from coterie.game.search.evolve import evolve
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer, contiguous, greedy
from coterie.game.search.plain import one_shot as one_at_a_time
from coterie.game.stability import cut_overlaps
from coterie.game.study import run_study
from coterie.game.study_design import Settings
from coterie.game.utilities import clustered_mean, floor_nll
from coterie.texts.sets import TextSet
from coterie.verbs.search.choose import choose
from coterie.verbs.search.result import Search
from coterie.verbs.shared.prepared import Prepared, prepare
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.shared.provenance import versions
from coterie.verbs.shared.workspace import Workspace, open_workspace
from coterie.verbs.values.request import ValuesRequest

MARGIN = 0.005  # nats per token by which guided may be worse and still count as not beaten


@dataclass(frozen=True, eq=False)
class FoundCut:
    """What one run of a method keeps for each number of layers removed, and what it asked."""

    method: str
    seed: int
    kept: dict[int, Coalition]
    layer_tokens: float
    remark: str = ""


@dataclass(frozen=True, eq=False)
class Bench:
    """The opened model, the removals, and the draws of the paper's design."""

    table: Workspace
    removals: Sequence[int]
    draws: int | None

    @property
    def n_players(self) -> int:
        """Layers of the model."""
        return self.table.stack.n_players

    @property
    def keeps(self) -> list[int]:
        """Sizes searched."""
        return [self.n_players - r for r in self.removals]

    def ledger(self) -> Ledger:
        """A fresh account with the game on all the calibration texts."""
        played = self.table.calibration
        return Ledger(played.game, floor=floor_nll(played.engine.vocabulary))

    def found(
        self,
        method: str,
        seed: int,
        answers: Sequence[Answer],
        layer_sequences: float,
        remark: str = "",
    ) -> FoundCut:
        """Answers as a run, its cost in layer-tokens."""
        kept = {self.n_players - int(a.coalition.sum()): a.coalition for a in answers}
        cost = layer_sequences * self.table.calibration.texts.length
        return FoundCut(method, seed, kept, cost, remark)


Method = Callable[[Bench, int, float], FoundCut]
"""A method that knows its seed and the layer-tokens it may ask."""


def main() -> None:
    """Run what is not known yet, then print the tables as Markdown."""
    options = arguments()
    prepared = texts_of(options)
    options.work.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, float32, {versions()}\n")
    with open_workspace(
        prepared, store=options.work / "store.sqlite", progress=NoProgress()
    ) as table:
        removals = [round(table.stack.n_players * eighths / 8) for eighths in (1, 2, 3)]
        bench = Bench(table, removals, options.draws)
        answers = options.work / "answers.jsonl"
        found, budget = [], np.inf
        for seed in range(options.seeds):
            whole = remembered(answers, bench, "paper", seed, by_paper, 0.0)
            budget = whole.layer_tokens * options.share
            found += [
                whole,
                remembered(answers, bench, "guided", seed, by_guided, budget),
                remembered(answers, bench, "evolution", seed, by_evolution, budget),
            ]
        found += [plainly(bench, name) for name in PLAIN]
        table = report(bench, found, budget)
    if options.figure is not None:
        write_table(table, options.figure.with_suffix(".csv"))
        draw(table, options.figure)


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of store and answers")
    parser.add_argument("--model", default="reference")
    parser.add_argument("--calibration", default="stdlib")
    parser.add_argument("--held-out", help="text that judges (default: documents set aside)")
    parser.add_argument("--sequences", type=int, default=32, help="calibration, all methods")
    parser.add_argument("--second", type=int, default=32, help="more, for guided's finalists")
    parser.add_argument("--judging", type=int, default=256, help="held-out sequences at most")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.1, help="of the paper's cost, for guided")
    parser.add_argument("--draws", type=int, help="the paper's draws (default: as published)")
    parser.add_argument("--figure", type=Path, help="draw quality against cost (matplotlib), .csv")
    return parser.parse_args()


def texts_of(options: argparse.Namespace) -> Prepared:
    """The model with as many texts as asked, documents mixed."""
    request = ValuesRequest(
        options.model, calibration=options.calibration, held_out=options.held_out
    )
    prepared = prepare(request, progress=NoProgress())

    def drawn(sequences: int, stream: int) -> tuple[TextSet, TextSet]:
        recipe = replace(
            prepared.recipe,
            sequences=sequences,
            held_out_sequences=options.judging,
            length=options.length,
            seed=(0, stream),
        )
        return recipe.read()

    calibration, held_out = drawn(options.sequences, 1)
    more, _ = drawn(options.sequences + options.second, 6)
    second = without(more, calibration.document_names, options.second)
    return replace(prepared, calibration=calibration, second=second, held_out=held_out)


def without(texts: TextSet, taken: Sequence[str], most: int) -> TextSet:
    """At most so many sequences, of other documents than those taken."""
    names = np.array(texts.document_names)[texts.documents]
    rows = np.flatnonzero(~np.isin(names, taken))[:most]
    left, own = np.unique(names[rows], return_inverse=True)
    return replace(texts, tokens=texts.tokens[rows], documents=own, document_names=tuple(left))


def remembered(
    path: Path, bench: Bench, method: str, seed: int, search: Method, budget: float
) -> FoundCut:
    """The answer of an earlier run with the same texts and settings, or a new one, written down."""
    texts = bench.table.calibration.texts.sha256[:16]
    key = f"{method} {seed} {list(bench.removals)} {texts} {bench.draws} {budget:.0f}"
    if method == "guided" and (second := bench.table.prepared.second) is not None:
        key += f" {second.sha256[:16]}"
    lines = path.read_text().splitlines() if path.exists() else []
    for line in map(json.loads, lines):
        if line["key"] == key:
            kept = {int(r): from_text([text])[0] for r, text in line["kept"].items()}
            return FoundCut(method, seed, kept, line["layer_tokens"], line.get("remark", ""))
    found = search(bench, seed, budget)
    if 0 < budget < found.layer_tokens:
        raise SystemExit(f"{method} asked {found.layer_tokens:.0f} of {budget:.0f} layer-tokens")
    written = {str(r): to_text(coalition) for r, coalition in found.kept.items()}
    with path.open("a") as file:
        line = {"key": key, "kept": written, "layer_tokens": found.layer_tokens}
        line["remark"] = found.remark
        file.write(json.dumps(line) + "\n")
    return found


def by_paper(bench: Bench, seed: int, _: float) -> FoundCut:
    """The published design and network, once for all sizes."""
    played = bench.table.calibration
    settings = replace(Settings.published(bench.n_players), replicates=2)
    if bench.draws is not None:
        settings = replace(settings, draws=bench.draws)
    study = run_study(
        played.game,
        settings,
        played.texts.documents,
        played.engine.vocabulary,
        rng=np.random.default_rng([seed, 2]),
        step=lambda *_: None,
    )
    work = plan(study.asked, played.texts.n_sequences, played.texts.length)
    kept = {r: study.keep(bench.n_players - r) for r in bench.removals}
    return FoundCut("paper", seed, kept, work.layer_tokens_asked)


def by_guided(bench: Bench, seed: int, budget: float) -> FoundCut:
    """Guided search for all sizes as the tool runs it, its finalists decided on more texts."""
    n = bench.n_players
    search = Search("guided", bench.keeps, most_layer_tokens=budget, seed=seed)
    found = choose(bench.table, search, NoProgress())
    kept = {r: found.keep(n - r) for r in bench.removals}
    return FoundCut("guided", seed, kept, found.layer_tokens_asked, found.remark or "")


def by_evolution(bench: Bench, seed: int, budget: float) -> FoundCut:
    """EvoPress' evolution, one run a size, the layer-tokens shared out equally."""
    answers, cost = [], 0.0
    for keep in bench.keeps:
        ledger = bench.ledger()
        share = budget / len(bench.keeps) / bench.table.calibration.texts.length
        rng = np.random.default_rng([seed, 4, keep])
        answers.append(evolve(ledger, keep, most_layer_sequences=share, rng=rng))
        cost += ledger.layer_sequences
    return bench.found("evolution", seed, answers, cost)


PLAIN = {"greedy": greedy, "one-shot": one_at_a_time, "contiguous": contiguous}


def plainly(bench: Bench, name: str) -> FoundCut:
    """A plain search, every candidate read in full; it has no seed."""
    ledger = bench.ledger()
    answers = PLAIN[name](ledger, bench.keeps)
    return bench.found(name, 0, answers, ledger.layer_sequences)


@dataclass(frozen=True)
class Point:
    """One answer in the figure: loss in nats per token, its error paired with the full model's."""

    method: str
    seed: int
    removed: int
    layer_tokens: float
    calibration_loss: float
    held_out_loss: float
    above_full: float
    error: float


def report(bench: Bench, found: Sequence[FoundCut], budget: float) -> list[Point]:
    """Judge everything on the held-out texts; guided against each rival, cell by cell."""
    held_out = bench.table.play_held_out()
    rows = np.array([run.kept[r] for run in found for r in bench.removals])
    shape = (len(found), len(bench.removals), -1)
    judged = observe_all(held_out.game, rows).nll.reshape(shape)
    chosen = observe_all(bench.table.calibration.game, rows).nll.mean(axis=1).reshape(shape[:2])
    best = best_known(bench)
    documents = held_out.texts.documents
    for texts in (bench.table.calibration.texts, held_out.texts):
        n_documents = len(texts.document_names)
        print(f"{texts.description}: {texts.n_sequences} × {texts.length}, {n_documents} documents")
    heads = " | ".join(f"−{r}: calibration, held-out" for r in bench.removals)
    print(f"\n| method | M layer-tokens | {heads} |\n|---|---|{'---|' * len(bench.removals)}")
    for run, here, there in zip(found, chosen, judged.mean(axis=2), strict=True):
        cells = [f"{a:.4f}, {b:.4f}" for a, b in zip(here, there, strict=True)]
        name = f"{run.method}, seed {run.seed}"
        print(f"| {name} | {run.layer_tokens / 1e6:.2f} | {' | '.join(cells)} |")
    for run in found:
        if run.remark:
            print(f"\n{run.method}, seed {run.seed}: {run.remark}")
        if run.method in PLAIN and run.layer_tokens > budget:
            print(
                f"\nNot at equal cost: {run.method} asked {run.layer_tokens / 1e6:.2f} M"
                f" layer-tokens, guided was allowed {budget / 1e6:.2f} M"
            )
    ours = [k for k, run in enumerate(found) if run.method == "guided"]
    means, uppers = against_rivals(bench, found, judged, ours, documents)
    below = np.mean(np.array(uppers) < MARGIN)
    print(f"\nupper end below +{MARGIN}: {below:.3f} of {len(uppers)} cells")
    print(f"mean difference {np.mean(means):+.4f} nats per token")
    excess = (chosen[ours] - best) / best
    print(f"median excess calibration loss over the best known: {np.median(excess):.3%}")
    if len(ours) > 1:
        for r in bench.removals:
            overlaps = cut_overlaps(np.array([found[k].kept[r] for k in ours]))
            print(f"Jaccard of cut sets between seeds at −{r}: {overlaps.mean():.2f}")
    grand = np.ones((1, bench.n_players), dtype=bool)
    full = observe_all(held_out.game, grand).nll[0]
    return [
        Point(
            run.method,
            run.seed,
            r,
            run.layer_tokens,
            float(chosen[k, at]),
            float(judged[k, at].mean()),
            *_paired(judged[k, at] - full, documents),
        )
        for k, run in enumerate(found)
        for at, r in enumerate(bench.removals)
    ]


def _paired(difference: Vector, documents: Indices) -> tuple[float, float]:
    mean, error = clustered_mean(difference, documents)
    return mean, error or 0.0


def write_table(points: Sequence[Point], path: Path) -> None:
    """The table the figure is drawn from."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(vars(points[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(vars(point) for point in points)


def draw(points: Sequence[Point], path: Path) -> None:
    """Held-out loss above the full model's against layer-tokens asked, a panel per removal."""
    from matplotlib.figure import Figure

    removals = sorted({point.removed for point in points})
    figure = Figure(figsize=(4 * len(removals), 3.6), layout="constrained")
    axes = figure.subplots(1, len(removals), squeeze=False)
    methods = list(dict.fromkeys(point.method for point in points))
    for axis, removed in zip(axes[0], removals, strict=True):
        for number, method in enumerate(methods):
            here = [p for p in points if p.removed == removed and p.method == method]
            axis.errorbar(
                [p.layer_tokens / 1e6 for p in here],
                [p.above_full for p in here],
                yerr=[p.error for p in here],
                fmt="osD^vP"[number % 6],
                capsize=2,
                label=method,
            )
        axis.set(xscale="log", xlabel="layer-tokens asked, millions", title=f"{removed} removed")
    axes[0, 0].set_ylabel("held-out loss above the full model, nats")
    axes[0, -1].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def best_known(bench: Bench) -> Vector:
    """The lowest calibration loss of any coalition in the store, per removal."""
    played = bench.table.calibration
    known = from_text(sorted(played.known_coalitions()))
    least = []
    for keep in bench.keeps:
        of_size = known[sizes(known) == keep]
        least.append(observe_all(played.game, of_size).nll.mean(axis=1).min())
    return np.array(least)


def against_rivals(
    bench: Bench, found: Sequence[FoundCut], judged: np.ndarray, ours: list[int], documents: Indices
) -> tuple[list[float], list[float]]:
    """Guided less each rival, held-out: means and upper ends of the 95 % intervals, per cell."""
    print("\n| guided, seed | rival | " + " | ".join(f"−{r}" for r in bench.removals) + " |")
    print("|---|---|" + "---|" * len(bench.removals))
    means, uppers = [], []
    for k in ours:
        for j, rival in enumerate(found):
            seeded = rival.method in ("paper", "evolution") and rival.seed == found[k].seed
            if not seeded and rival.method != "greedy":
                continue
            cells = []
            for at in range(len(bench.removals)):
                mean, error = clustered_mean(judged[k, at] - judged[j, at], documents)
                half = 1.96 * (error or 0.0)
                means.append(mean)
                uppers.append(mean + half)
                cells.append(f"{mean:+.4f} ± {half:.4f}")
            print(f"| {found[k].seed} | {rival.method} | {' | '.join(cells)} |")
    return means, uppers


if __name__ == "__main__":
    main()
