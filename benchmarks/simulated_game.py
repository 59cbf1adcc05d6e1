"""A game of a real model without the model: a network fitted to coalitions observed of it.

Run `python benchmarks/simulated_game.py OBSERVED.npz GAME.npz` once; it prints how well the network
knows coalitions held out of the fit, and writes its weights. Other scripts open GAME.npz.

OBSERVED.npz holds `search_coalitions` and `paper_coalitions` (packed bits, True = kept) with
`search_nll` and `paper_nll` (coalition × text, NaN = not observed): what searches and the published
design saw of a model on their calibration texts. The network has one output per text of the
searches, so that races and close calls between texts are simulated too.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from coterie.game.coalitions import Block, Coalitions, Indices, Matrix, Observations
from coterie.game.surrogates.fidelity import agreement

N_PLAYERS = 30
HIDDEN = 128
SHIFT = 0.5  # nats added to a loss before its logarithm is fitted: near the top it is nearly linear


@dataclass(frozen=True, eq=False)
class SimulatedGame:
    """A game whose losses a network computes, text by text; it counts what it was asked."""

    weights: list[np.ndarray]
    full: np.ndarray
    """Losses of the full model, ``(n_sequences,)``."""
    n_players: int = N_PLAYERS

    @classmethod
    def read(cls, path: Path) -> "SimulatedGame":
        """Open what this script wrote."""
        with np.load(path) as found:
            weights = [found[f"weight{k}"] for k in range(6)]
            return cls(weights, found["full"])

    @property
    def n_sequences(self) -> int:
        """Texts that can be asked about."""
        return len(self.full)

    def losses(self, coalitions: Coalitions) -> Matrix:
        """Losses ``(n_coalitions, n_sequences)``."""
        signal = (~coalitions).astype(np.float32)
        for layer in (0, 2):
            signal = signal @ self.weights[layer] + self.weights[layer + 1]
            signal = np.maximum(signal, 0) + np.expm1(np.minimum(signal, 0))
        return self.full + np.exp(signal @ self.weights[4] + self.weights[5]) - SHIFT

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """All that is asked, in one block."""
        began = time.perf_counter()
        seen = self.losses(coalitions)[:, sequences].astype(np.float64)
        rows, columns = np.arange(len(coalitions)), np.arange(len(sequences))
        found = Observations(seen, np.zeros_like(seen), np.zeros_like(seen))
        yield Block(rows, columns, found, time.perf_counter() - began)


def observed(path: Path) -> tuple[Coalitions, Matrix]:
    """All coalitions, and their losses on the texts of the searches then on those of the paper."""
    with np.load(path) as found:
        sets = [
            np.unpackbits(found[f"{name}_coalitions"], axis=1)[:, :N_PLAYERS].astype(bool)
            for name in ("search", "paper")
        ]
        tables = [found[f"{name}_nll"].astype(np.float64) for name in ("search", "paper")]
    width = sum(table.shape[1] for table in tables)
    losses = np.full((sum(map(len, sets)), width), np.nan)
    losses[: len(sets[0]), : tables[0].shape[1]] = tables[0]
    losses[len(sets[0]) :, tables[0].shape[1] :] = tables[1]
    return np.concatenate(sets), losses


def fitted(coalitions: Coalitions, losses: Matrix, full: np.ndarray, epochs: int, seed: int):
    """Train the network on whatever was observed; its six arrays of weights."""
    import torch

    torch.manual_seed(seed)
    cut = torch.from_numpy((~coalitions).astype(np.float32))
    wanted = torch.from_numpy(np.log(np.maximum(losses - full, -0.4) + SHIFT).astype(np.float32))
    known = ~torch.isnan(wanted)
    wanted = torch.nan_to_num(wanted)
    widths = [N_PLAYERS, HIDDEN, HIDDEN, wanted.shape[1]]
    layers = [torch.nn.Linear(*pair) for pair in pairwise(widths)]
    net = torch.nn.Sequential(layers[0], torch.nn.ELU(), layers[1], torch.nn.ELU(), layers[2])
    steps = epochs * -(-len(cut) // 256)
    best = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    pace = torch.optim.lr_scheduler.OneCycleLR(best, max_lr=4e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(cut)).split(256):
            error = (net(cut[rows]) - wanted[rows])[known[rows]]
            best.zero_grad()
            error.square().mean().backward()
            best.step()
            pace.step()
    arrays = []
    for layer in layers:
        arrays += [layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()]
    return arrays


def main() -> None:
    """Fit, judge on a held-out quarter, fit again to everything, and write."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("observed", type=Path)
    asked.add_argument("game", type=Path)
    asked.add_argument("--epochs", type=int, default=100)
    given = asked.parse_args()
    coalitions, losses = observed(given.observed)
    everyone = coalitions.all(axis=1)
    full = np.nanmean(losses[everyone], axis=0)
    n_texts = int(np.sum(~np.isnan(losses[np.flatnonzero(everyone)[0]])))
    print(f"{len(coalitions)} coalitions, {n_texts} texts, full model {full[:n_texts].mean():.3f}")
    kept_back = np.random.default_rng(0).random(len(coalitions)) < 0.25
    weights = fitted(coalitions[~kept_back], losses[~kept_back], full, given.epochs, 0)
    tried = SimulatedGame(weights, full)
    whole = kept_back & ~np.isnan(losses[:, :n_texts]).any(axis=1)
    true, guess = (
        table[:, :n_texts].mean(axis=1)
        for table in (losses[whole], tried.losses(coalitions[whole]))
    )
    held = agreement(true, guess)
    print(f"held-out quarter: R² {held.r2:.3f}, rank correlation {held.spearman:.3f}")
    for size in (26, 22, 19):
        rows = coalitions[whole].sum(axis=1) == size
        within = agreement(true[rows], guess[rows])
        print(f"  size {size}: R² {within.r2:.3f}, rank correlation {within.spearman:.3f}")
    weights = fitted(coalitions, losses, full, given.epochs, 1)
    weights[4], weights[5] = weights[4][:, :n_texts], weights[5][:n_texts]
    arrays = {f"weight{k}": array for k, array in enumerate(weights)}
    np.savez(given.game, full=full[:n_texts], **arrays)


if __name__ == "__main__":
    main()
