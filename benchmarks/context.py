"""Does a layer's worth depend on which others are there? The paper's opening study, with errors.

    python benchmarks/context.py [--sequences 32] [--store FILE]

On the reference model: cut two layers by the ranking of single cuts (one shot), by a ranking made
again after the first cut, and by looking at every pair (Ding et al. 2026, arXiv:2602.07804, Section
1); then how the ranking of single cuts changes as layers go. Differences are paired sequence by
sequence, errors over documents.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions, observe_all
from coterie.game.designs import all_of_size
from coterie.game.stability import rank_overlaps
from coterie.game.utilities import clustered_mean
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.shared.provenance import versions
from coterie.verbs.shared.workspace import TextGame, Workspace, open_workspace
from coterie.verbs.values.request import ValuesRequest


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sequences", type=int, default=32, help="calibration sequences")
    parser.add_argument("--steps", type=int, default=8, help="layers cut one after the other")
    parser.add_argument("--store", type=Path, help="keep observations here (default: nowhere)")
    options = parser.parse_args()
    print(f"{platform.machine()}, float32, {versions()}\n")
    prepared = prepare(
        ValuesRequest("reference", sequences=options.sequences), progress=NoProgress()
    )
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "s.sqlite"
        with open_workspace(prepared, store=store, progress=NoProgress()) as table:
            two_layers(table)
            rankings(table, options.steps)


def without(coalition: Coalition) -> tuple[Coalitions, np.ndarray]:
    """The coalition less each of its players in turn, and which player that is."""
    players = np.flatnonzero(coalition)
    return coalition & ~np.eye(len(coalition), dtype=bool)[players], players


def losses(played: TextGame, coalitions: Coalitions) -> np.ndarray:
    """Loss per coalition and sequence, nats per token."""
    return observe_all(played.game, coalitions).nll


def two_layers(table: Workspace) -> None:
    """Three ways to cut two layers: chosen on the calibration texts, judged on the others."""
    played, n = table.calibration, table.stack.n_players
    everyone = np.ones(n, dtype=bool)
    alone, _ = without(everyone)
    order = losses(played, alone).mean(axis=1).argsort()
    one_shot = everyone.copy()
    one_shot[order[:2]] = False
    second, _ = without(alone[order[0]])
    again = second[losses(played, second).mean(axis=1).argmin()]
    pairs = all_of_size(n, n - 2)
    means = losses(played, pairs).mean(axis=1)
    rows = np.array([one_shot, again, pairs[means.argmin()]])
    names = ("one shot", "ranked again", "best of all pairs")
    print("| cut two layers | which | calibration | − best pair | held-out | − best pair |")
    print("|---|---|---|---|---|---|")
    held_out = table.play_held_out()
    found = [(game, losses(game, rows)) for game in (played, held_out)]
    for k, name in enumerate(names):
        cells = [str(np.flatnonzero(~rows[k]).tolist())]
        for game, nll in found:
            change, error = clustered_mean(nll[k] - nll[-1], game.texts.documents)
            cells += [f"{nll[k].mean():.4f}", f"{change:+.4f} ± {error:.4f}"]
        print(f"| {name} | {' | '.join(cells)} |")
    better = [int((means < means[(pairs == row).all(axis=1)]).sum()) for row in rows]
    print(f"\nof {len(pairs)} pairs, better than each: {better}\n")


def rankings(table: Workspace, steps: int) -> None:
    """Cut the layer that costs least, rank the rest again, and compare with the first ranking."""
    played, n = table.calibration, table.stack.n_players
    documents = played.texts.documents
    current = np.ones(n, dtype=bool)
    full = losses(played, current[None])[0]
    at_first: np.ndarray | None = None
    print("| layers cut | cheapest next | costs | at first it cost | rank at first | Spearman |")
    print("|---|---|---|---|---|---|")
    for _ in range(steps):
        candidates, players = without(current)
        cost = losses(played, candidates) - full
        means = cost.mean(axis=1)
        at_first = cost if at_first is None else at_first
        first = at_first[players]
        best = int(means.argmin())
        overlap = rank_overlaps(np.array([means, first.mean(axis=1)]))[0]
        place = int((first.mean(axis=1) < first[best].mean()).sum()) + 1
        now, error = clustered_mean(cost[best], documents)
        change, doubt = clustered_mean(cost[best] - first[best], documents)
        gone = np.flatnonzero(~current).tolist()
        print(
            f"| {gone} | {players[best]} | {now:+.4f} ± {error:.4f} | {now - change:+.4f}"
            f" (now − then {change:+.4f} ± {doubt:.4f}) | {place} of {len(players)} |"
            f" {overlap:.2f} |"
        )
        current, full = candidates[best], full + cost[best]


if __name__ == "__main__":
    main()
