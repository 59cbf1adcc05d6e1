"""Does ONE front find the best coalition of every size? Games of 12 layers, all enumerated.

    python benchmarks/front.py --tables DIR [--seeds 20] [--budget 409]
        [--model DIR --calibration FILE]

A game keeps 12 of the model's layers as players; the others are cut for good. All its coalitions
are observed once on the calibration texts (10 × 128 tokens) and saved in DIR, so that every seed
after that costs nothing. One guided run per seed searches sizes 6 to 11 together. So small a game
is looked at whole, round by round, and leaves nothing to chance: each seed therefore draws seven
of the ten texts, which is a game of its own with its own optima.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import Block, Coalitions, Game, Indices, Matrix
from coterie.game.designs import enumerate_all
from coterie.game.search.guided import GuidedSettings, front_sizes, guided
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import greedy
from coterie.game.search.race import Judge, by_race, in_full
from coterie.game.toy import ToyGame
from coterie.models.cutting.structure import meta_model
from coterie.models.loaded.load import load_model, resolve
from coterie.models.loaded.stack import find_stack
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.shared.request import Request
from coterie.verbs.values.request import ValuesRequest

PLAYERS = 12
TEXTS = 7  # of ten, drawn anew for every seed

REFERENCE = {
    "without 5 8 10 13": (5, 8, 10, 13),
    "without 2 to 5": (2, 3, 4, 5),
    "the first 12": (12, 13, 14, 15),
}
"""Layers of the reference model that no coalition of the game holds."""


def games_of(n_layers: int) -> dict[str, tuple[int, ...]]:
    """Other models lose all but twelve layers by rules that look at nothing.

    Spread: at even distances, the first and the last layer stay. Middle, early: one run of layers.
    """
    gone = n_layers - PLAYERS
    spread = np.linspace(1, n_layers - 2, gone).round().astype(int)
    start = (n_layers - gone) // 2
    return {
        "spread": tuple(spread.tolist()),
        "middle": tuple(range(start, start + gone)),
        "early": tuple(range(1, 1 + gone)),
    }


JUDGES: dict[str, Judge] = {"in full": in_full, "by race": by_race}


def main() -> None:
    """Print hits per size, game by game, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=409)
    parser.add_argument("--games", type=int, default=3, help="how many of the games")
    parser.add_argument("--model", default="reference")
    parser.add_argument("--calibration", default="stdlib")
    options = parser.parse_args()
    request = ValuesRequest(options.model, calibration=options.calibration)
    sizes = list(front_sizes(PLAYERS))
    print(
        f"at most {options.budget} distinct coalitions a run; of {options.seeds} seeds, in how many"
        " guided, greedy found the optimum\n"
    )
    heads = " | ".join(map(str, sizes))
    print(f"| game, judge | {heads} | greedy behind by ≤ | distinct coalitions | layers a text |")
    print("|---|" + "---|" * (len(sizes) + 3))
    n_layers = find_stack(meta_model(resolve(options.model).config())).n_players
    games = REFERENCE if options.model == "reference" else games_of(n_layers)
    for name, gone in list(games.items())[: options.games]:
        losses = table_of(name, options.tables, request, gone)
        for told, judge in JUDGES.items():
            row = hits(losses, sizes, judge, options.seeds, options.budget)
            print(f"| {name}, {told} | {row} |", flush=True)


def hits(losses: Matrix, sizes: list[int], judge: Judge, seeds: int, budget: int) -> str:
    """Seeds in which guided's front, and greedy's, hold the optimum of each size; what it cost."""
    found, plain = np.zeros((2, len(sizes)), dtype=int)
    asked, cost, missed = [], [], [0.0]
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 5])
        game = game_of_table(losses[:, np.sort(rng.permutation(losses.shape[1])[:TEXTS])])
        everything = enumerate_all(game.n_players)
        values, held = game.value(everything), everything.sum(axis=1)
        optimum = np.array([values[held == size].max() for size in sizes])
        ledger = Ledger(game, floor=np.inf)
        answers = guided(ledger, sizes, GuidedSettings(budget=budget), judge=judge, rng=rng).answers
        found += np.array([answer.value for answer in answers]) >= optimum - 1e-9
        asked.append(ledger.n_asked)
        cost.append(ledger.layer_sequences / game.n_sequences)
        theirs = greedy(Ledger(game, floor=np.inf), sizes)
        behind = optimum - np.array([answer.value for answer in theirs])
        plain += behind <= 1e-9
        missed.append(float(behind.max()))
    told = [f"{ours}, {other}" for ours, other in zip(found, plain, strict=True)]
    told += [f"{max(missed):.4f}", f"{np.mean(asked):.0f}, ≤ {max(asked)}"]
    return " | ".join([*told, f"{np.mean(cost):.0f}"])


def table_of(name: str, folder: Path, request: Request, gone: tuple[int, ...]) -> Matrix:
    """Losses of all coalitions of a game, in the order of `enumerate_all`, ``(4096, 10)``."""
    model = "" if request.model == "reference" else f"{Path(request.model).name}-"
    path = folder / f"{model}{name.replace(' ', '-')}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part.npz")
        np.savez(aside, losses=enumerated(request, gone))
        aside.rename(path)
    with np.load(path) as known:
        return known["losses"]


def enumerated(request: Request, gone: tuple[int, ...]) -> Matrix:
    """Observe every coalition of the model's layers that lacks ``gone``."""
    prepared = prepare(request, progress=NoProgress())
    model = load_model(prepared.source, dtype=prepared.dtype, device=prepared.device)
    game = ModelGame(model, prepared.calibration.tokens, kl=False)
    part = Part(game, np.setdiff1d(np.arange(game.n_players), gone))
    losses = np.full((2**part.n_players, game.n_sequences), np.nan)
    for block in part.observe(enumerate_all(part.n_players), np.arange(game.n_sequences)):
        losses[np.ix_(block.rows, block.columns)] = block.observations.nll
    return losses


class Part:
    """A game some of whose players are cut for good: the others play on."""

    def __init__(self, game: Game, players: Indices) -> None:
        self.game, self.players = game, players
        self.n_players, self.n_sequences = len(players), game.n_sequences

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe coalitions of the players that are left."""
        whole = np.zeros((len(coalitions), self.game.n_players), dtype=bool)
        whole[:, self.players] = coalitions
        yield from self.game.observe(whole, sequences)


def game_of_table(losses: Matrix) -> ToyGame:
    """A game that looks its losses up, ``(2 ** n_players, n_sequences)``."""
    n_players = int(np.log2(len(losses)))
    bits = 1 << np.arange(n_players)
    return ToyGame(n_players, lambda coalitions: losses[coalitions @ bits], losses.shape[1])


if __name__ == "__main__":
    main()
