"""Sparsity shared out by Shapley values against uniform, OWL, ECoFLaP-style and guided allocation.

    python benchmarks/sparsity.py --out sparsity.jsonl [--model reference] [--seeds 3]

One cell is a calibration draw, a pruner and a target; each is a line of the output as soon as it is
known, and a run that was stopped goes on with the cells that are missing. Every allocation is
pruned in sequence and judged on the same held-out texts, paired with uniform.
"""

import argparse
import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from coterie.game.coalitions import Vector
from coterie.game.surrogates.fidelity import agreement
from coterie.game.utilities import clustered_mean, floor_nll, read
from coterie.models.loaded.stack import find_stack
from coterie.sparsity.bounds import Bounds
from coterie.sparsity.calibration import PruningTask
from coterie.sparsity.ecoflap import ecoflap, zeroth_order_scores
from coterie.sparsity.layerwise import prune_layers
from coterie.sparsity.owl import outlier_ratios, owl
from coterie.sparsity.pruners import PRUNERS, find_pruner
from coterie.sparsity.variant_game import ChoiceGame, JudgedModel
from coterie.texts.sets import TextSet
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.shared.provenance import machine, versions
from coterie.verbs.shared.workspace import Workspace, open_workspace
from coterie.verbs.sparsify.contributions import Measured, measure
from coterie.verbs.sparsify.judging import Judging
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.rules import guided, sv_nup
from coterie.verbs.sparsify.rules._interface import RuleTask
from coterie.verbs.sparsify.texts import with_pruning_texts

RULES = ("uniform", "owl", "ecoflap", "sv-nup", "sv-nup-window", "guided")


def main() -> None:
    """Fill the missing cells, then print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; cells there are kept")
    parser.add_argument("--model", default="reference", help="reference, or a folder")
    parser.add_argument("--calibration", help="text, where the model has no default")
    parser.add_argument("--held-out", help="text that judges")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--targets", default="0.5,0.6,0.7")
    parser.add_argument("--pruners", default=",".join(PRUNERS))
    parser.add_argument("--budget", type=int, default=256, help="coalitions of the surrogate")
    parser.add_argument("--truth", type=int, default=512, help="coalitions windows are held to")
    parser.add_argument("--sequences", type=int, default=128, help="held-out sequences")
    parser.add_argument("--pruning-sequences", type=int, default=32)
    options = parser.parse_args()
    known = _lines(options.out)
    print(machine(torch.get_num_threads(), "cpu"), versions(), "float32")
    for seed in range(options.first, options.first + options.seeds):
        cells = [
            (pruner, float(target))
            for pruner in options.pruners.split(",")
            for target in options.targets.split(",")
        ]
        names = {(line.get("seed"), line.get("pruner"), line.get("target")) for line in known}
        missing = [cell for cell in cells if (seed, *cell) not in names]
        windows = seed == 0 and options.truth and not any("window" in line for line in known)
        if not missing and not windows:
            continue
        asked = SparsifyRequest(
            options.model,
            calibration=options.calibration,
            held_out=options.held_out,
            budget=options.budget,
            sequences=10,
            seed=seed,
            dtype="float32",
            sparsity=0.5,
        )
        store = options.out.with_suffix(".sqlite")
        prepared = with_pruning_texts(
            prepare(asked.opening(), progress=NoProgress()),
            replace(asked, pruner="sparsegpt", pruning_sequences=options.pruning_sequences),
            NoProgress(),
        )
        with open_workspace(prepared, store=store, progress=NoProgress()) as table:
            known += _seed(table, asked, options, missing, bool(windows))
    _tables(known)


def _seed(
    table: Workspace,
    asked: SparsifyRequest,
    options: argparse.Namespace,
    cells: list[tuple[str, float]],
    windows: bool,
) -> list[dict]:
    """All missing cells of one calibration draw; the game is played once for all of them."""
    lines = []
    if windows:
        truth = measure(table, replace(asked, budget=options.truth), NoProgress())
        for width in (3, 5, 7):
            found = measure(
                table, replace(asked, allocation="sv-nup-window", window=width), NoProgress()
            )
            line = {
                "window": width,
                "spearman": agreement(truth.values, found.values).spearman,
                "coalitions": found.distinct,
                "layer_tokens": found.layer_tokens,
                "truth": truth.how,
                "truth_coalitions": truth.distinct,
                "truth_layer_tokens": truth.layer_tokens,
                "values": found.values.tolist(),
                "truth_values": truth.values.tolist(),
            }
            lines.append(_written(options.out, line))
    if not cells:
        return lines
    found, held_out = _scores(table, asked), _held_out(table, options.sequences)
    for pruner in dict.fromkeys(pruner for pruner, _ in cells):
        with tempfile.TemporaryDirectory() as folder:
            first = replace(asked, pruner=pruner)
            judging = Judging(RuleTask.of(table, first, NoProgress()), Path(folder))
            for target in (t for p, t in cells if p == pruner):
                request = replace(asked, sparsity=target, pruner=pruner)
                allocations, costs = _allocations(judging, found, request)
                line = {"seed": asked.seed, "pruner": pruner, "target": target, "costs": costs}
                line |= _judged(table, pruner, allocations, held_out)
                lines.append(_written(options.out, line))
    return lines


class _Scores:
    """What every allocation of one calibration draw is made from."""

    shapley: Measured
    window: Measured
    outliers: Vector
    zeroth: Vector
    zeroth_tokens: int
    measured_tokens: int


def _scores(table: Workspace, asked: SparsifyRequest) -> _Scores:
    found, task = _Scores(), RuleTask.of(table, asked, NoProgress())
    found.shapley = measure(table, asked, NoProgress())
    found.window = measure(table, replace(asked, allocation="sv-nup-window"), NoProgress())
    found.outliers = outlier_ratios(task.pruning(find_pruner("wanda")), task.units)
    judged = task.judged(table.calibration.texts)
    scores = zeroth_order_scores(judged, task.units, table.request.seed)
    found.measured_tokens = table.prepared.measured.tokens.size
    found.zeroth, found.zeroth_tokens = scores[0], scores[1].layer_tokens
    return found


def _allocations(
    judging: Judging, found: _Scores, request: SparsifyRequest
) -> tuple[dict[str, Vector], dict[str, dict]]:
    """Sparsities by rule, and what each rule cost beyond what others share."""
    weights, target, bounds = judging.units.weights, request.target(), Bounds()
    judging.task = replace(judging.task, request=request)
    tokens = found.measured_tokens * len(weights)
    made = {
        "uniform": np.full(len(weights), target),
        "owl": owl(found.outliers, weights, target, bounds=bounds),
        "ecoflap": ecoflap(found.zeroth, weights, target, bounds=bounds),
    }
    costs: dict[str, dict] = {
        "uniform": {"layer_tokens": 0},
        "owl": {"layer_tokens": tokens},
        "ecoflap": {"layer_tokens": found.zeroth_tokens},
    }
    played = {
        "sv-nup": (sv_nup.choose, found.shapley),
        "sv-nup-window": (sv_nup.choose, found.window),
        "guided": (guided.choose, found.shapley),
    }
    for rule, (choose, measured) in played.items():
        before, began = judging.game.spent.layer_tokens, perf_counter()
        chosen = choose(judging, measured.values)
        made[rule] = chosen.sparsity
        judged = judging.game.spent.layer_tokens - before
        costs[rule] = {
            "layer_tokens": measured.layer_tokens + judged,
            "seconds": perf_counter() - began,
            "told": chosen.findings,
        }
    return made, costs


def _held_out(table: Workspace, sequences: int) -> TextSet:
    """More texts than a run judges by: differences between good rules are small."""
    recipe = replace(
        table.prepared.recipe,
        sequences=2 * len(table.calibration.texts.tokens),  # as a run reads them
        held_out_sequences=sequences,
    )
    _, texts = recipe.read()
    assert not set(texts.document_names) & set(table.calibration.texts.document_names)
    return texts


def _judged(table: Workspace, pruner: str, made: dict[str, Vector], held_out: TextSet) -> dict:
    """Each allocation pruned in sequence and read on the same held-out texts."""
    tokens = torch.from_numpy(table.prepared.measured.tokens)
    stack, began = find_stack(table.model), perf_counter()
    layers = []
    for sparsity in made.values():
        model = copy.deepcopy(table.model)
        task = PruningTask(model, find_stack(model), tokens, find_pruner(pruner))
        done = prune_layers(task, sparsity.tolist())
        layers.append([layer.tensors for layer in done])
    shape = table.calibration.engine.shape
    judged = JudgedModel(table.model, stack, torch.from_numpy(held_out.tokens), shape)
    game = ChoiceGame(judged, lambda layer, choice: layers[choice - 1][layer])
    choices = np.repeat(np.arange(len(made) + 1)[:, None], stack.n_players, axis=1)
    vocabulary = table.calibration.engine.vocabulary
    losses, not_finite = read(game.observe(choices), "nll", vocabulary)
    assert losses.max() <= floor_nll(vocabulary)
    documents = held_out.documents
    rules = {}
    for row, (rule, sparsity) in enumerate(made.items(), start=1):
        change, error = clustered_mean(losses[row] - losses[1], documents)
        rules[rule] = {
            "perplexity": float(np.exp(losses[row].mean())),
            "against_uniform": change,
            "error": error,
            "sparsity": sparsity.tolist(),
        }
    return {
        "dense": float(np.exp(losses[0].mean())),
        "rules": rules,
        "not_finite": not_finite,
        "sequences": len(documents),
        "seconds_pruning_and_judging": perf_counter() - began,
    }


def _tables(lines: list[dict]) -> None:
    """Perplexities, mean over seeds, and paired differences from uniform."""
    cells = [line for line in lines if "rules" in line]
    print(f"\n| pruner | sparsity | {' | '.join(RULES)} |\n|{'---|' * (len(RULES) + 2)}")
    keys = sorted({(cell["pruner"], cell["target"]) for cell in cells})
    for pruner, target in keys:
        some = [c for c in cells if (c["pruner"], c["target"]) == (pruner, target)]
        shown = []
        for rule in RULES:
            of_rule = [cell["rules"][rule] for cell in some]
            perplexity = np.exp(np.mean([np.log(one["perplexity"]) for one in of_rule]))
            change = np.mean([one["against_uniform"] for one in of_rule])
            errors = [one["error"] or 0.0 for one in of_rule]
            error = np.sqrt(np.mean(np.square(errors)))
            shown.append(f"{perplexity:.2f} ({change:+.3f} ± {error:.3f})")
        print(f"| {pruner} | {target:.0%} | {' | '.join(shown)} |")
    print("\nIn brackets: nats per token against uniform, paired over documents, mean over seeds.")
    for rule in RULES if cells else ():
        costs = [cell["costs"][rule]["layer_tokens"] for cell in cells]
        print(f"{rule}: {np.mean(costs) / 1e6:.2f} M layer-tokens a cell")
    for line in (line for line in lines if "window" in line):
        print(
            f"window {line['window']}: Spearman {line['spearman']:.3f} with {line['truth']} of "
            f"{line['truth_coalitions']} coalitions; {line['coalitions']} coalitions, "
            f"{line['layer_tokens'] / line['truth_layer_tokens']:.2f} of its cost"
        )


def _lines(file: Path) -> list[dict]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def _written(file: Path, line: dict) -> dict:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    return line


if __name__ == "__main__":
    main()
