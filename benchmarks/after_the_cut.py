"""What a cut leaves of a model, and what repair, healing and eight bits make of it.

    python benchmarks/after_the_cut.py --model DIR --work DIR --fit FILE --text wikitext=FILE
        --text novels=FILE [--remove 8] [--methods guided,sleb,shortgpt,paper]
        [--cut NAME=12-17,25,26]... [--learn SPEC] [--watch FILE] [--tokens 20000,200000]
        [--mode lora] [--scheme int8] [--tasks a,b,c --tasks-dir DIR] [--limit N] [--cpu]

Rows: the dense model; every cut, as it is and repaired; the first cut healed from its repair on
each number of tokens; and eight bits of the dense, the repaired and the last healed model. All are
judged on the same windows of every --text, in one table with tasks, paired with the dense model.
Cuts are found by `coterie compare` unless they are named. Every step is kept in the work folder and
not done again, so the same command goes on where it was stopped.
"""

import argparse
import json
import platform
from pathlib import Path

import torch

from coterie import (
    CompareRequest,
    CutRequest,
    EvaluateRequest,
    HealRequest,
    QuantizeRequest,
    RepairRequest,
    compare,
    cut,
    evaluate,
    heal,
    quantize,
)
from coterie.report.schema.evaluate import EstimatePart, Judgement, ModelRow
from coterie.verbs.after_cut.repair import repair
from coterie.verbs.options.forms import LAYERS
from coterie.verbs.shared.provenance import versions

WINDOWS, BATCH = 64, 8


class Bench:
    """The folder of one run of this script, and what it was asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work
        self.device = "cpu" if options.cpu else "auto"
        self.work.mkdir(parents=True, exist_ok=True)

    @property
    def judge(self) -> str:
        """The text that judges what `coterie heal` and `repair` say of themselves."""
        return self.options.texts[0][1]

    def cuts(self) -> dict[str, tuple[int, ...]]:
        """The layers that each named cut takes out: as they were given, or as methods choose."""
        named = {name: LAYERS.read("--cut", layers) for name, layers in self.options.cuts}
        return named or self._found()

    def _found(self) -> dict[str, tuple[int, ...]]:
        options, place = self.options, self.work / "cuts.json"
        if not place.is_file():
            asked = CompareRequest(
                options.model,
                removals=(options.remove,),
                methods=tuple(options.methods.split(",")),
                seeds=1,
                rounds=0,
                calibration=options.fit,
                held_out=self.judge,
                device=self.device,
            )
            found = compare(
                asked, output=self.work / "compare", store=self.work / "store.sqlite"
            ).as_json()
            layers = range(found["layers"])
            cuts = {
                cell["method"]: [layer for layer in layers if layer not in cell["kept"][0]]
                for cell in found["cells"]
                if cell["players"] == "layer"
            }
            place.write_text(json.dumps(cuts), encoding="utf-8")
        return {name: tuple(gone) for name, gone in json.loads(place.read_text()).items()}

    def make(self) -> list[str]:
        """Every checkpoint of the table, in order; returns their names, the dense model first."""
        cuts, options = self.cuts(), self.options
        names = ["dense"]
        for name, gone in cuts.items():
            self._once(f"{name}", lambda to, gone=gone: self._cut(gone, to))
            self._once(f"{name}-repaired", lambda to, name=name: self._repair(name, to))
            names += [name, f"{name}-repaired"]
        first = f"{next(iter(cuts))}-repaired"
        last = first
        for tokens in options.tokens:
            last = f"{first}-healed-{tokens}"
            self._once(last, lambda to, tokens=tokens: self._heal(first, tokens, to))
            names.append(last)
        if options.scheme != "none":
            for name in dict.fromkeys(["dense", first, last]):
                eight = f"{name}-{options.scheme}"
                self._once(eight, lambda to, name=name: self._quantize(name, to))
                names.append(eight)
        return names

    def folder(self, name: str) -> str:
        """Where a model of the table lies."""
        return self.options.model if name == "dense" else str(self.work / name)

    def _once(self, name: str, act) -> None:
        place = self.work / name
        if not place.is_dir():
            print(f"making {name}", flush=True)
            act(place)

    def _cut(self, gone: tuple[int, ...], to: Path) -> None:
        cut(CutRequest(self.options.model, layers=gone), output=to)

    def _repair(self, name: str, to: Path) -> None:
        repair(
            RepairRequest(
                self.folder(name),
                method=self.options.repair,
                teacher=self.options.model,
                text=self.options.fit,
                held_out=self.judge,
                device=self.device,
            ),
            output=to,
        )

    def _heal(self, name: str, tokens: int, to: Path) -> None:
        heal(
            HealRequest(
                self.folder(name),
                teacher=self.options.model,
                text=self.options.learn or self.options.fit,
                held_out=self.judge,
                watch=self.options.watch,
                mode=self.options.mode,
                steps=max(1, round(tokens / (BATCH * self.options.length))),
                batch=BATCH,
                learning_rate=self.options.learning_rate,
                sweep=self.options.sweep,
                device=self.device,
            ),
            output=to,
        )

    def _quantize(self, name: str, to: Path) -> None:
        asked = QuantizeRequest(
            self.folder(name), scheme=self.options.scheme, held_out=self.judge, device=self.device
        )
        quantize(asked, output=to)

    def judged(self, name: str) -> Judgement:
        """One model beside the dense one, on every text and task; measured once."""
        options, place = self.options, self.work / "rows" / f"{name}.json"
        if not place.is_file():
            print(f"judging {name}", flush=True)
            place.parent.mkdir(exist_ok=True)
            models = (options.model,) if name == "dense" else (options.model, self.folder(name))
            asked = EvaluateRequest(
                models,
                texts=tuple(spec for _, spec in options.texts),
                tasks=tuple(options.tasks.split(",")) if options.tasks else (),
                tasks_dir=options.tasks_dir,
                limit=options.limit,
                length=options.length,
                sequences=WINDOWS,
                dtype="float32",
                device=self.device,
            )
            found = evaluate(asked, store=self.work / "store.sqlite")
            place.write_text(json.dumps(found.as_json()), encoding="utf-8")
        return Judgement.from_json(json.loads(place.read_text(encoding="utf-8")))


def row_of(name: str, found: Judgement, dense: ModelRow) -> str:
    """One line of the table."""
    model, cells = found.models[-1], [name]
    for text, before in zip(model.perplexity, dense.perplexity, strict=True):
        change = ""
        if text.difference is not None and text.difference.mean is not None:
            change = f" ({text.difference.mean:+.3f} ± {text.difference.error or 0:.3f})"
        assert before.sha256 == text.sha256  # or the rows of the table could not be compared
        cells.append(f"{text.perplexity.mean:.2f}{change}")
    near = model.beside
    cells.append("–" if near is None else f"{near.kl:.3f}, {near.top1:.0%}")
    wrote = None if near is None else near.generation
    if wrote is None:
        cells.append("–")
    else:
        told = "**broken** " if wrote.broken else ""
        cells.append(
            f"{told}{wrote.smaller.loops:.0%} loop ({wrote.full.loops:.0%}), same"
            f" {wrote.agreement:.0%}, read at {wrote.smaller.perplexity:.2f}"
            f" ({wrote.full.perplexity:.2f})"
        )
    for task in model.tasks:
        chance = " chance" if task.at_chance else ""
        change = "" if task.difference is None else f" ({_points(task.difference, '{:+.1f}')})"
        cells.append(f"{_points(task.score, '{:.1f}')}{change}{chance}")
    return "| " + " | ".join(cells) + " |"


def _points(part: EstimatePart, pattern: str) -> str:
    """A share in per cent with its error."""
    return f"{pattern.format(100 * (part.mean or 0))} ± {100 * (part.error or 0):.1f}"


def recovered(rows: dict[str, Judgement], dense: ModelRow) -> list[str]:
    """What repair and healing gave back of the loss of the first cut, text by text."""
    names = [name for name in rows if name != "dense"]
    lines = []
    for place, text in enumerate(dense.perplexity):
        losses = {name: rows[name].models[-1].perplexity[place].nll.mean or 0.0 for name in names}
        cost = losses[names[0]] - (text.nll.mean or 0.0)
        for name in names[1:]:
            if name.startswith(names[0]) and cost > 0:
                back = (losses[names[0]] - losses[name]) / cost
                lines.append(f"{name}: {back:.1%} of the loss of {names[0]} on {text.text}")
    return lines


def main() -> None:
    """Make what is missing, judge what is missing, print the table."""
    options = _options()
    bench = Bench(options)
    names = bench.make()
    rows = {name: bench.judged(name) for name in names}
    dense = rows["dense"].models[0]
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads, {versions()}\n")
    head = ["", *(f"{name} (nats over dense)" for name, _ in options.texts)]
    head += ["KL, same choice", "writes", *(task.task for task in dense.tasks)]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for name, found in rows.items():
        print(row_of(name, found, dense))
    print("\n" + "\n".join(recovered(rows, dense)))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, help="folder of the dense model")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--fit", required=True, help="text that chooses, and is fitted on")
    parser.add_argument("--text", dest="texts", type=_pair, action="append", required=True)
    parser.add_argument("--length", type=int, default=128, help="tokens of a window")
    parser.add_argument("--remove", type=int, default=8)
    parser.add_argument("--methods", default="guided,sleb,shortgpt,paper")
    parser.add_argument("--cut", dest="cuts", type=_pair, action="append", default=[])
    parser.add_argument("--repair", default="auto")
    parser.add_argument("--learn", help="text to heal on; default: that of --fit")
    parser.add_argument("--watch", help="text that stops a healing where it gets worse")
    parser.add_argument(
        "--tokens",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[20_000, 200_000],
    )
    parser.add_argument("--mode", default="lora")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--scheme", default="int8", help="or none")
    parser.add_argument("--tasks")
    parser.add_argument("--tasks-dir", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--cpu", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
