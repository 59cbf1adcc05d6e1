"""The reference model as it is: held-out perplexity, and what each layer alone is worth.

    python benchmarks/reference.py [--threads 2]

Prints the table of its model card: loss of the full model on the held-out half of `stdlib`, and the
change when one layer is skipped, paired sequence by sequence, errors over documents; then how
faithful the paper's surrogate and the pairwise one are at every size around the cut.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch

from coterie.game.coalitions import observe_all
from coterie.game.designs import draw_distinct
from coterie.game.surrogates.fidelity import held_out_fidelity
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.utilities import UTILITIES, clustered_mean
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.shared.provenance import versions
from coterie.verbs.shared.workspace import Workspace, open_workspace
from coterie.verbs.values.request import ValuesRequest

SIZES = (15, 14, 13, 12)
PER_SIZE = 160


def main() -> None:
    """Print everything as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, float32, {versions()}\n")
    prepared = prepare(ValuesRequest("reference"), progress=NoProgress())
    with (
        tempfile.TemporaryDirectory() as folder,
        open_workspace(prepared, store=Path(folder) / "s.sqlite", progress=NoProgress()) as table,
    ):
        one_at_a_time(table)
        fidelity(table)


def one_at_a_time(table: Workspace) -> None:
    """Skip each layer alone and see what the held-out loss says."""
    held_out = table.play_held_out()
    n = table.stack.n_players
    coalitions = np.concatenate([np.ones((1, n), dtype=bool), ~np.eye(n, dtype=bool)])
    seen = observe_all(held_out.game, coalitions)
    documents = held_out.texts.documents
    full, error = clustered_mean(seen.nll[0], documents)
    texts = held_out.texts
    print(f"{texts.description}: {texts.n_sequences} × {texts.length} tokens\n")
    print(f"full model: {full:.4f} ± {error:.4f} nats per token, perplexity {np.exp(full):.2f}\n")
    print("| layer skipped | loss change, nats | ± |\n|---|---|---|")
    for layer in range(n):
        change, error = clustered_mean(seen.nll[layer + 1] - seen.nll[0], documents)
        print(f"| {layer} | {change:+.4f} | {error:.4f} |")


def fidelity(table: Workspace) -> None:
    """Cross-validated agreement of two surrogates on coalitions of the sizes around the cut."""
    rng = np.random.default_rng(0)
    n = table.stack.n_players
    strata = [draw_distinct(n, size, PER_SIZE, rng=rng) for size in SIZES]
    coalitions = np.concatenate([stratum.coalitions for stratum in strata])
    grand = np.ones((1, n), dtype=bool)
    seen = observe_all(table.calibration.game, np.concatenate([grand, coalitions]))
    ratio, loss = (
        UTILITIES[name].values(seen.nll[1:], seen.nll[0]) for name in ("ppl-ratio", "log-loss")
    )
    print(f"\n{len(coalitions)} coalitions of {SIZES} layers; R² / Spearman, 5-fold, held out\n")
    print("| surrogate | value | all | " + " | ".join(map(str, SIZES)) + " |")
    print("|---|---|---|" + "---|" * len(SIZES))
    for name, surrogate, value, targets in (
        ("paper network, 300 epochs", PaperNetwork(), "ppl ratio", ratio),
        ("paper network, published steps", PaperNetwork(epochs=2100), "ppl ratio", ratio),
        ("pairwise ridge", Pairwise(), "ppl ratio", ratio),
        ("pairwise ridge", Pairwise(), "log-loss", loss),
    ):
        found, _ = held_out_fidelity(surrogate, coalitions, targets, rng=np.random.default_rng(1))
        parts = [found.overall, *(found.by_size[size] for size in SIZES)]
        cells = " | ".join(f"{part.r2:.3f} / {part.spearman:.3f}" for part in parts)
        print(f"| {name} | {value} | {cells} |")


if __name__ == "__main__":
    main()
