"""Time coalitions of attention and feed-forward blocks: shared prefixes against one at a time.

Both evaluate the same distinct coalitions on the same texts with the same losses, the second
through the model's own forward with the other blocks silent. Executions are of players, that is of
kept blocks, each on all texts. Seconds are those of the processor, not of the clock.

    python benchmarks/blocks.py [--folder MODEL] [--threads 1]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import Coalitions, Observations, observe_all
from coterie.game.designs import draw_strata
from coterie.game.published import paper_sizes
from coterie.models.files.places import reference_folder
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.stack import Players
from coterie.models.reference.text import stdlib_documents

N_SEQUENCES, LENGTH, DRAWS = 10, 128, 64

CASES: tuple[tuple[Players, str], ...] = (
    ("sublayer", "paper"),
    ("sublayer", "greedy step"),
    ("attention", "paper"),
    ("mlp", "paper"),
)


def main() -> None:
    """Print one row for each kind of player and design."""
    options = _options()
    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.float32)
    tokens = texts(options.folder)
    print(
        "| players | design | coalitions | executions (one at a time) | seconds (one at a time) |"
        " ratio of executions, of seconds | largest difference of a loss |"
    )
    print("|---|---|---|---|---|---|---|")
    for players, design in CASES:
        print(row(model, tokens, players, design), flush=True)


def row(model: PreTrainedModel, tokens: torch.Tensor, players: Players, design: str) -> str:
    """Play one design both ways."""
    game = ModelGame(model, tokens, stack=find_players(model, players))
    assert game.walker is not None, game.mode
    coalitions = coalitions_of(design, game.n_players)
    game.walker.full(np.arange(N_SEQUENCES))
    shared, runs, seconds = played(game, coalitions)
    game.walker = None
    alone, runs_alone, seconds_alone = played(game, coalitions)
    gap = np.abs(shared.nll - alone.nll).max()
    return (
        f"| {game.n_players} {players} | {design} | {len(coalitions)} | {runs:,} ({runs_alone:,}) |"
        f" {seconds:.1f} ({seconds_alone:.1f}) | {runs_alone / runs:.2f},"
        f" {seconds_alone / seconds:.2f} | {gap:.1e} |"
    )


def played(game: ModelGame, coalitions: Coalitions) -> tuple[Observations, int, float]:
    """What is observed, players executed, and processor seconds."""
    before, began = game.spent.layer_executions, time.process_time()
    seen = observe_all(game, coalitions)
    return seen, game.spent.layer_executions - before, time.process_time() - began


def coalitions_of(design: str, n_players: int) -> Coalitions:
    """The paper's design, or all ways to cut one player more after an eighth are cut."""
    rng = np.random.default_rng(0)
    if design == "paper":
        strata = draw_strata(n_players, paper_sizes(n_players), DRAWS, rng=rng)
        return np.unique(np.concatenate([stratum.coalitions for stratum in strata]), axis=0)
    kept = rng.permutation(n_players) >= n_players // 8
    inside = np.flatnonzero(kept)
    rows = np.repeat(kept[None], len(inside), axis=0)
    rows[np.arange(len(inside)), inside] = False
    return rows


def texts(folder: Path) -> torch.Tensor:
    """Beginnings of documents of the standard library."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for _, text in stdlib_documents("calibration")]
    long = [document[:LENGTH] for document in ids if len(document) >= LENGTH]
    return torch.tensor(long[:: len(long) // N_SEQUENCES][:N_SEQUENCES])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time coalitions of blocks of layers.")
    parser.add_argument("--folder", type=Path, default=reference_folder(), help="the model")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
