"""What a cut, a healing and eight bits are worth, alone and together, in both orders.

    python benchmarks/after_the_cut.py --work DIR [--model M] [--remove 4] [--heal 200]
        [--calibration TEXT] [--held-out TEXT] [--text TEXT] [--tasks-dir DIR --tasks a,b]

Rows: dense, cut, cut + healed, cut + quantized, quantized + cut, cut + healed + quantized, and
quantized + cut + healed + quantized. All are judged on the same held-out sequences, errors paired
with the dense model over documents; speed is measured in turn with the dense model. Small models
are at chance on zero-shot tasks, and the table says so. A row that is done is not done again.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch

from coterie.game.utilities import clustered_mean
from coterie.models.files.places import REFERENCE
from coterie.models.loaded.load import load_tokenizer, resolve
from coterie.quantization.checkpoint import load_quantized
from coterie.scores.sequence_losses import floored_losses
from coterie.scores.speed import measure_speed
from coterie.scores.task_definitions import load_tasks
from coterie.scores.tasks import TaskSettings, score_tasks
from coterie.scores.timing import Load
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.heal import heal
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.quantize import quantize
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.after_cut.texts import held_out_texts
from coterie.verbs.options.texts import JudgingOptions
from coterie.verbs.outputs.records import read_record
from coterie.verbs.prune.after import After
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.stages import prune_and_after
from coterie.verbs.prune.whole import prune
from coterie.verbs.shared.provenance import versions

ROWS = ("dense", "cut", "healed", "cut-q", "q-cut", "healed-q", "q-cut-healed-q")


def main() -> None:
    """Make the missing checkpoints, measure the missing rows, print the table."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    make("cut", options)  # it decides which texts are left to judge on, for the dense model too
    for row in ROWS[: options.rows]:
        done = options.work / f"{row}.json"
        if not done.is_file():
            make(row, options)
            found = measure(row, options)
            done.write_text(json.dumps(found), encoding="utf-8")
            print(f"{row}: {found}", flush=True)
    report(options)


def make(row: str, options: argparse.Namespace) -> None:
    """The checkpoint of one row, from those of the rows before it."""
    work, place = options.work, options.work / row
    if row == "dense" or place.is_dir():
        return
    request = PruneRequest(
        options.model,
        remove=options.remove,
        calibration=options.calibration,
        held_out=options.held_out,
        budget=options.budget,
        device="cpu" if options.cpu else "auto",
    )
    default = "stdlib" if options.model == REFERENCE else None
    judged = {"calibration": options.calibration or default, "held_out": options.held_out}
    store, device = work / "store.sqlite", request.device
    if row == "cut":
        prune(request, output=place, store=store)
    elif row == "healed":
        order = HealRequest(
            str(work / "cut"),
            teacher=options.model,
            text=options.text,
            **judged,
            mode=options.mode,
            steps=options.heal,
            device=device,
        )
        heal(order, output=place)
    elif row in ("cut-q", "healed-q"):
        plain = str(work / row.removesuffix("-q"))
        order = QuantizeRequest(plain, scheme=options.scheme, device=device, **judged)
        quantize(order, output=place)
    else:
        steps = options.heal if "healed" in row else None
        after = After(options.scheme, True, steps, options.text)
        prune_and_after(request, after, Destination(place, store=store))


def measure(row: str, options: argparse.Namespace) -> dict[str, object]:
    """Losses per sequence, speed beside the dense model, bytes, and tasks where asked."""
    device = torch.device("cpu" if options.cpu or not torch.cuda.is_available() else "cuda")
    dense_source = resolve(options.model)
    source = dense_source if row == "dense" else resolve(str(options.work / row))
    texts = judging(options)
    model = load_quantized(source, device)
    losses, not_finite = floored_losses(model, texts.tokens)
    models = {"dense": load_quantized(dense_source, device), row: model}
    load = Load(context=options.context, new_tokens=16)
    speed = measure_speed(models, load, rng=np.random.default_rng(0), rounds=options.rounds)
    tokenizer = load_tokenizer(dense_source)
    tasks = {}
    if options.tasks:
        wanted = load_tasks(options.tasks.split(","), options.tasks_dir)
        scored = score_tasks(wanted, model, tokenizer, TaskSettings(limit=options.limit))
        tasks = {s.task: [*vars(s.estimate()).values(), s.at_chance] for s in scored}
    return {
        "losses": losses.tolist(),
        "not_finite": not_finite,
        "disk": sum(file.stat().st_size for file in source.files),
        "decode": speed[row].decode_tokens_per_second,
        "prefill": speed[row].prefill_tokens_per_second,
        "over_dense": speed["dense"].prefill.over(speed[row].prefill).median,
        "memory": speed[row].weight_bytes + (speed[row].extra_bytes or 0),
        "tasks": tasks,
    }


def judging(options: argparse.Namespace) -> TextSet:
    """The held-out sequences of the cut, or those of the same words where nothing is cut yet."""
    source = resolve(options.model)
    record = read_record(options.work / "cut")
    judges = JudgingOptions(calibration=options.calibration, held_out=options.held_out)
    return held_out_texts(judges, record, source.name, source, load_tokenizer(source))


def report(options: argparse.Namespace) -> None:
    """The table as Markdown."""
    found = {
        row: json.loads((options.work / f"{row}.json").read_text(encoding="utf-8"))
        for row in ROWS[: options.rows]
    }
    documents = judging(options).documents
    dense = np.array(found["dense"]["losses"])
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads, {versions()}\n")
    print(
        "| | perplexity | nats over dense | on disk, MB | prefill tokens/s (× dense) |"
        " decode tokens/s | memory, MB | tasks |\n|---|---|---|---|---|---|---|---|"
    )
    for row, one in found.items():
        losses = np.array(one["losses"])
        change, error = clustered_mean(losses - dense, documents)
        tasks = ", ".join(
            f"{name} {mean:.3f} ± {spread:.3f}{' (chance)' if chance else ''}"
            for name, (mean, spread, *_, chance) in one["tasks"].items()
        )
        print(
            f"| {row} | {np.exp(losses.mean()):.2f} | {change:+.4f} ± {error or 0:.4f} |"
            f" {one['disk'] / 1e6:.2f} | {one['prefill']:.0f} ({one['over_dense']:.2f}) |"
            f" {one['decode']:.0f} | {one['memory'] / 1e6:.1f} | {tasks or '–'} |"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and rows")
    parser.add_argument("--model", default=REFERENCE)
    parser.add_argument("--remove", type=int, default=4)
    parser.add_argument("--budget", type=int, help="most coalitions of the search")
    parser.add_argument("--scheme", default="int8")
    parser.add_argument("--heal", type=int, default=200, help="steps")
    parser.add_argument("--mode", default="lora")
    parser.add_argument("--calibration")
    parser.add_argument("--held-out")
    parser.add_argument("--text")
    parser.add_argument("--tasks")
    parser.add_argument("--tasks-dir", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=len(ROWS), help="only the first N rows")
    parser.add_argument("--cpu", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
