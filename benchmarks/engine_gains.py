"""What each trick on a layer and on the head is worth by itself, in one run.

    python benchmarks/engine_gains.py [--threads N] [--clock wall|cpu]

A layer of 10 × 128 tokens: eager, with weights packed for the processor's matrix library
(`torch.compile` with frozen weights), compiled, and in bfloat16. The head on the same tokens, with
loss and KL: all logits at once as anyone would write it, and ours, in blocks of the vocabulary. The
ratios are to the first row of each part; every trick is timed in turn, round after round, and the
medians of the rounds are compared.
"""

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch._inductor.config as inductor

from coterie.engine.model_game import ModelGame
from engine import LENGTH, N_SEQUENCES, REFERENCE, WIDE, Case, build, plain_loss

ROUNDS = 9
CASES = [
    Case("reference shape, 4k", REFERENCE, 4, 4096, "all"),
    Case("width 256, 4k", WIDE, 4, 4096, "all"),
    Case("width 256, 32k", WIDE, 4, 32000, "all"),
]
Trick = Callable[[], object]


def main() -> None:
    """Print one table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    now = time.perf_counter if options.clock == "wall" else time.process_time
    print(
        f"{platform.machine()}, {options.threads} thread(s), {options.clock} seconds, torch"
        f" {torch.__version__}; {N_SEQUENCES} × {LENGTH} tokens, medians of {ROUNDS}\n"
    )
    print("| case | part | how | ms | gain |\n|---|---|---|---|---|")
    with torch.inference_mode():
        for case in CASES:
            for part, tricks in (("layer", layer_tricks(case)), ("head", head_tricks(case))):
                seconds = in_turn(tricks, now)
                first = next(iter(seconds.values()))
                for name, spent in seconds.items():
                    gain = f"×{first / spent:.2f}"
                    print(f"| {case.name} | {part} | {name} | {spent * 1e3:.1f} | {gain} |")


def layer_tricks(case: Case) -> dict[str, Trick]:
    """Ways to run one layer."""
    model, tokens = build(case)
    state = model.model.embed_tokens(tokens)
    table = model.model.rotary_emb(state, torch.arange(LENGTH)[None])
    layer = model.model.layers[2]
    half = copy.deepcopy(layer).to(torch.bfloat16)
    half_state, half_table = state.bfloat16(), tuple(part.bfloat16() for part in table)
    compiled = torch.compile(layer)
    with inductor.patch(freezing=True):
        packed = torch.compile(copy.deepcopy(layer), dynamic=False)
        packed(state, position_embeddings=table)
    return {
        "eager": lambda: layer(state, position_embeddings=table),
        "compiled": lambda: compiled(state, position_embeddings=table),
        "compiled, weights packed": lambda: packed(state, position_embeddings=table),
        "bfloat16": lambda: half(half_state, position_embeddings=half_table),
    }


def head_tricks(case: Case) -> dict[str, Trick]:
    """Ways to read losses and KL off final states."""
    model, tokens = build(case)
    whole = model(tokens, use_cache=False).logits[:, :-1]
    state = model.model.embed_tokens(tokens)
    games = {kl: ModelGame(model, tokens, kl=kl) for kl in (True, False)}

    def plain(kl: bool) -> object:
        logits = model.lm_head(model.model.norm(state))
        return plain_loss(logits, tokens, whole if kl else None)

    def ours(kl: bool) -> Trick:
        walker = games[kl].walker
        assert walker is not None
        full = walker.full(np.arange(N_SEQUENCES))
        return lambda: walker.batches.read([state], tokens, full)

    return {
        "plain, with KL": lambda: plain(True),
        "fused, with KL": ours(True),
        "plain, loss only": lambda: plain(False),
        "fused, loss only": ours(False),
    }


def in_turn(tricks: dict[str, Trick], now: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each, all of them timed in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in tricks}
    for _ in range(ROUNDS + 1):
        for name, trick in tricks.items():
            began = now()
            trick()
            seconds[name].append(now() - began)
    return {name: statistics.median(spent[1:]) for name, spent in seconds.items()}


if __name__ == "__main__":
    main()
