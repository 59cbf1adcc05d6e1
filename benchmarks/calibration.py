"""Which text should choose: cuts chosen on one kind of text, judged on all kinds.

    python benchmarks/calibration.py --work DIR --texts wikitext=FILE --texts novels=FOLDER …
        [--models smollm2,gemma3] [--remove 8] [--lengths 128,512] [--tokens 4096] [--pool 24]
        [--device cpu|cuda]

The models are those of `benchmarks/real.py`, made in DIR. A pool of cuts of one size is fixed
beforehand: those that the full model's states say are likely to mend, on all kinds of text
together, and runs of neighbours. Every cut is observed once on every kind of text, `--tokens` to
choose by and as many of other documents to judge by, in sequences of each length. What a kind, a
length and a number of sequences would have chosen is then read off, for 200 draws of that many
sequences: the table has the loss above the best cut of the pool on each kind, nats per token.

A cell is one model, one length and one kind; each is a file in DIR, and what is there is not
observed again.
"""

import argparse
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from real import BOS, PACKAGES, Told, make_model

from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import Coalitions, distinct, observe_all
from coterie.game.search.plain import windows
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model, load_tokenizer
from coterie.models.loaded.stack import find_stack
from coterie.repair.distances import gap_distances, likely_cuts
from coterie.repair.full import RememberedStates
from coterie.repair.repairable import WholeModel
from coterie.repair.walk import Walk
from coterie.texts.recipe import TextRecipe

REMOVED = {"smollm2": 8, "gemma3": 4}
DRAWS = 200
FEW = 8
"""Sequences of each kind that the pool is drawn up on."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Losses of the pool on one kind of text, ``(n_cuts, n_sequences)`` each, in nats per token."""

    choose: np.ndarray
    judge: np.ndarray


class Sweep:
    """One model, its texts and its pool of cuts."""

    def __init__(self, name: str, options: argparse.Namespace, specs: dict[str, str]) -> None:
        self.name, self.options, self.specs = name, options, specs
        self.source = resolve(str(make_model(name, options.work / name)))
        self.tokenizer = load_tokenizer(self.source)
        self.model = load_model(self.source, dtype=torch.float32, device=options.device)
        self.stack = find_stack(self.model)
        self.remove = options.remove or REMOVED[name]
        self.pool = self._pool()

    def texts(self, kind: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Sequences to choose by and to judge by, of documents that differ."""
        n = max(1, self.options.tokens // length)
        recipe = TextRecipe(
            self.tokenizer,
            self.specs[kind],
            sequences=n,
            held_out_sequences=n,
            length=length,
            bos=BOS[self.name],
        )
        chosen, judge = recipe.read()
        return chosen.tokens, judge.tokens

    def _pool(self) -> Coalitions:
        """Likely cuts on all kinds together, and every run of neighbours but those at the ends."""
        few = np.concatenate([self.texts(kind, 128)[0][:FEW] for kind in self.specs])
        players = self.stack.n_players
        whole = WholeModel(self.model, self.stack)
        walk = Walk(whole, range(players), torch.from_numpy(few).to(whole.device))
        states = RememberedStates(walk.through, walk.kept, players).before
        likely = likely_cuts(gap_distances(states), self.remove, self.options.pool, (0,))
        runs = windows(players, players - self.remove)[1:-1:2]
        whole = np.concatenate([likely, runs])
        return whole[distinct(whole)[0]]

    def seen(self, kind: str, length: int) -> Seen:
        """What the pool loses on a kind of text: observed, or read from its file."""
        pool = f"{zlib.crc32(np.packbits(self.pool).tobytes()):08x}"
        cell = f"{self.name}-{self.remove}-{kind}-{length}-{self.options.tokens}-{pool}.npz"
        file = self.options.work / cell
        if not file.is_file():
            losses = []
            for tokens in self.texts(kind, length):
                game = ModelGame(self.model, tokens, stack=self.stack, kl=False)
                losses.append(observe_all(game, self.pool).nll)
            np.savez(file, choose=losses[0], judge=losses[1])
        with np.load(file) as found:
            return Seen(found["choose"], found["judge"])


def above_the_best(chosen_on: Seen, n: int, judged: list[Seen]) -> np.ndarray:
    """Mean loss above the best of the pool on every kind, of what n sequences would choose."""
    rng = np.random.default_rng(0)
    picks = []
    for _ in range(DRAWS):
        rows = rng.choice(chosen_on.choose.shape[1], n, replace=False)
        picks.append(int(chosen_on.choose[:, rows].mean(axis=1).argmin()))
    each = [one.judge.mean(axis=1) for one in judged]
    return np.array([(loss[picks] - loss.min()).mean() for loss in each])


def print_table(sweep: Sweep) -> None:
    """Observe what is missing, and print what every kind, length and number chooses."""
    kinds, options, told = list(sweep.specs), sweep.options, Told()
    print(f"\n# {sweep.name} less {sweep.remove} layers, {len(sweep.pool)} cuts\n")
    print("| chosen on | tokens each | sequences |", " | ".join(kinds), "| mean |")
    print("|---" * (4 + len(kinds)) + "|")
    for length in options.lengths:
        seen = {}
        for kind in kinds:
            told.say(f"{sweep.name}: {kind}, {length} tokens a sequence")
            seen[kind] = sweep.seen(kind, length)
        judged = [seen[kind] for kind in kinds]
        for kind in kinds:
            there = seen[kind].choose.shape[1]
            for n in sorted({max(1, there // part) for part in (8, 4, 2, 1)}):
                row = above_the_best(seen[kind], n, judged)
                cells = " | ".join(f"{value:.3f}" for value in row)
                print(f"| {kind} | {length} | {n} | {cells} | {row.mean():.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--texts", action="append", required=True, metavar="NAME=TEXT")
    parser.add_argument("--models", type=lambda s: s.split(","), default=list(PACKAGES))
    parser.add_argument("--remove", type=int)
    parser.add_argument(
        "--lengths", type=lambda s: [int(n) for n in s.split(",")], default=[128, 512]
    )
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--pool", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    specs = dict(one.split("=", 1) for one in options.texts)
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        print_table(Sweep(name, options, specs))


if __name__ == "__main__":
    main()
