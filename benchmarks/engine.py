"""Time the engine against the published loop and against plain skipping, beside its own floor.

Contenders, on the same distinct coalitions and texts:
(a) the paper's loop: clone and zero the cut layers' weights, run the full forward, restore;
(b) one coalition at a time, cut layers skipped, loss by plain cross-entropy;
(c) the engine.
(a) and (b) are timed on a few of the coalitions and scaled; (c) is timed in full.

The floor is distinct prefixes × seconds of one layer + distinct coalitions × seconds of the head,
each at its best batch, measured in the same run. The bound of a rival is its own layer and head
seconds over the floor: no exact engine can gain more.

    python benchmarks/engine.py [--cases NAME …] [--threads N] [--clock wall|cpu] [--output FILE]

Cases already in the output file are not run again, so an interrupted run resumes by case. On a busy
machine, ``--threads 1 --clock cpu`` counts processor seconds of one thread instead of wall time.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from coterie.engine.cost import Plan, plan
from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import Coalitions
from coterie.game.designs import draw_strata, enumerate_all
from coterie.game.published import paper_sizes
from coterie.models.loaded.routing import routed

N_SEQUENCES, LENGTH, SAMPLED, REPEATS = 10, 128, 24, 5

WIDE = {"hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 8}
REFERENCE = {"hidden_size": 160, "intermediate_size": 512, "num_attention_heads": 5}


@dataclass(frozen=True)
class Case:
    """One game to time: a model, the coalitions asked of it, and how they were drawn."""

    name: str
    model: dict[str, int]
    n_layers: int
    vocabulary: int
    design: str
    draws: int = 0
    dtype: str = "float32"
    kl: bool = True


CASES = [
    Case("reference shape, paper 256", REFERENCE, 16, 4096, "paper", 256),
    Case("reference shape, paper 1000", REFERENCE, 16, 4096, "paper", 1000),
    Case("32 layers, 4k, greedy step at 24", WIDE, 32, 4096, "greedy"),
    Case("32 layers, 4k, swaps at 24", WIDE, 32, 4096, "swaps"),
    Case("32 layers, 4k, paper 256", WIDE, 32, 4096, "paper", 256),
    Case("32 layers, 4k, paper 256, no KL", WIDE, 32, 4096, "paper", 256, kl=False),
    Case("32 layers, 32k, paper 256", WIDE, 32, 32000, "paper", 256),
    Case("32 layers, 32k, paper 256, no KL", WIDE, 32, 32000, "paper", 256, kl=False),
    Case("32 layers, 4k, paper 1000", WIDE, 32, 4096, "paper", 1000),
    Case("12 layers, 4k, all 4096", REFERENCE, 12, 4096, "all"),
    Case("reference shape, paper 256, bf16", REFERENCE, 16, 4096, "paper", 256, "bfloat16"),
    Case("32 layers, 4k, paper 256, bf16", WIDE, 32, 4096, "paper", 256, "bfloat16"),
    Case("32 layers, 32k, paper 1000", WIDE, 32, 32000, "paper", 1000),
]


def main() -> None:
    """Run the cases that are not in the output yet, and print all of them."""
    options = _options()
    torch.set_num_threads(options.threads)
    rows = json.loads(options.output.read_text()) if options.output.exists() else {}
    for case in CASES:
        if case.name not in rows and (not options.cases or case.name in options.cases):
            rows[case.name] = asdict(case) | run(case, options.clock)
            options.output.write_text(json.dumps(rows, indent=1) + "\n")
            show(rows[case.name])
    print(
        f"\n{platform.processor() or platform.machine()}, {options.threads} thread(s),"
        f" {options.clock} seconds, torch {torch.__version__}, transformers"
        f" {transformers.__version__}; {N_SEQUENCES} × {LENGTH} tokens"
    )
    for row in rows.values():
        show(row)


def run(case: Case, clock: str) -> dict[str, float]:
    """Time one case; every number in seconds unless its name says otherwise."""
    now = time.perf_counter if clock == "wall" else time.process_time
    model, tokens = build(case)
    coalitions, drawn = coalitions_of(case)
    work = plan(coalitions, N_SEQUENCES, LENGTH)
    game = ModelGame(model, tokens, kl=case.kl)
    assert game.walker is not None
    game.walker.full(np.arange(N_SEQUENCES))
    before = parts(game, model, tokens, now)
    began = now()
    for _ in game.observe(coalitions, np.arange(N_SEQUENCES)):
        pass
    engine = now() - began
    after = parts(game, model, tokens, now)  # a machine drifts: the floor is measured on both sides
    layer, plain_head, our_head = (sum(pair) / 2 for pair in zip(before, after, strict=True))
    assert game.spent.layer_executions == work.layer_executions
    some = coalitions[np.random.default_rng(1).permutation(len(coalitions))[:SAMPLED]]
    scale = work.layer_tokens_asked / plan(some, N_SEQUENCES, LENGTH).layer_tokens_asked
    skipping = seconds_of_skipping(model, game, tokens, some, case.kl, now)
    paper = seconds_of_the_paper(model, game, tokens, some, case.kl, now) * len(coalitions)
    return summary(work, drawn, layer, plain_head, our_head, engine) | {
        "skipping": skipping * scale,
        "paper": paper / len(some),
        "rows": game.shape.rows,
        "head_tokens": game.shape.head_tokens,
        "head_block": game.shape.head_block,
    }


def summary(
    work: Plan, drawn: int, layer: float, plain_head: float, our_head: float, engine: float
) -> dict[str, float]:
    """Counts, the floor, and the bounds of both rivals."""
    n = work.distinct_coalitions
    asked = work.layer_tokens_asked // (N_SEQUENCES * LENGTH)
    floor = work.layer_executions * layer + n * min(plain_head, our_head)
    return {
        "distinct": n,
        "deduplication": drawn / n,
        "executions": work.layer_executions,
        "sharing": work.sharing,
        "layer_ms": layer * 1e3,
        "plain_head_ms": plain_head * 1e3,
        "our_head_ms": our_head * 1e3,
        "floor": floor,
        "engine": engine,
        "skipping_bound": (asked * layer + n * plain_head) / floor,
        "paper_bound": (n * work.n_players * layer + n * plain_head) / floor,
    }


def show(row: dict[str, float]) -> None:
    """One case on four lines."""
    engine = row["engine"]
    print(f"\n{row['name']}: {row['distinct']} distinct, {row['executions']} layer executions")
    print(
        f"  counted sharing ×{row['sharing']:.2f}, deduplication ×{row['deduplication']:.2f};"
        f" layer {row['layer_ms']:.2f} ms, head {row['our_head_ms']:.2f} ms"
        f" (plain {row['plain_head_ms']:.2f} ms)"
    )
    print(f"  engine {engine:.2f} s = {engine / row['floor']:.3f} × floor {row['floor']:.2f} s")
    for rival in ("skipping", "paper"):
        gain, bound = row[rival] / engine, row[f"{rival}_bound"]
        print(
            f"  {rival} {row[rival]:.1f} s: gain ×{gain:.2f}, bound ×{bound:.2f},"
            f" reached {gain / bound:.2f}",
            flush=True,
        )


def build(case: Case) -> tuple[LlamaForCausalLM, Tensor]:
    """A random Llama and random texts."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=case.vocabulary, num_hidden_layers=case.n_layers, **case.model)
    model = LlamaForCausalLM(config).to(getattr(torch, case.dtype)).eval()
    return model, torch.randint(case.vocabulary, (N_SEQUENCES, LENGTH))


def coalitions_of(case: Case) -> tuple[Coalitions, int]:
    """Distinct coalitions of a case, and how many were drawn to get them."""
    rng, n = np.random.default_rng(0), case.n_layers
    if case.design == "all":
        return enumerate_all(n), 2**n
    if case.design == "paper":
        strata = draw_strata(n, paper_sizes(n), case.draws, rng=rng)
        return np.concatenate([stratum.coalitions for stratum in strata]), case.draws
    kept = rng.permutation(n) < 24
    inside, outside = np.flatnonzero(kept), np.flatnonzero(~kept)
    if case.design == "greedy":
        rows = np.repeat(kept[None], len(inside), axis=0)
        rows[np.arange(len(inside)), inside] = False
        return rows, len(rows)
    rows = np.repeat(kept[None], len(inside) * len(outside), axis=0)
    rows[np.arange(len(rows)), np.repeat(inside, len(outside))] = False
    rows[np.arange(len(rows)), np.tile(outside, len(inside))] = True
    return rows, len(rows)


Clock = Callable[[], float]


def parts(
    game: ModelGame, model: LlamaForCausalLM, tokens: Tensor, now: Clock
) -> tuple[float, float, float]:
    """Seconds, over all texts, of one layer, of the plain head and of ours, at their best batch."""
    assert game.walker is not None
    state = game.walker.layers.prelude(tokens).embedded
    full = game.walker.full(np.arange(N_SEQUENCES))
    table = model.model.rotary_emb(state, torch.arange(LENGTH)[None])
    layer = model.model.layers[model.config.num_hidden_layers // 2]
    with torch.no_grad():
        whole = model(tokens, use_cache=False).logits[:, :-1]
        layers = {
            n: _median(lambda: _split(lambda x: layer(x, position_embeddings=table), state, n), now)  # noqa: B023
            for n in (1, 2, 5, 10)
        }
        kl = game.kl
        plain = {
            n: _median(lambda: _plain_heads(model, state, tokens, whole, kl, n), now)  # noqa: B023
            for n in (1, 5, 10)
        }
        ours = _median(lambda: game.walker.batches.read([state], tokens, full), now)
    return min(layers.values()), min(plain.values()), ours


def _split(call: Callable[[Tensor], Tensor], state: Tensor, rows: int) -> None:
    for part in state.split(rows):
        call(part)


def _plain_heads(
    model: LlamaForCausalLM, state: Tensor, tokens: Tensor, whole: Tensor, kl: bool, rows: int
) -> None:
    for part in zip(state.split(rows), tokens.split(rows), whole.split(rows), strict=True):
        x, targets, full = part
        plain_loss(model.lm_head(model.model.norm(x)), targets, full if kl else None)


def plain_loss(logits: Tensor, tokens: Tensor, full: Tensor | None) -> Tensor:
    """Loss, and KL to the full model's logits, the way anyone would write them."""
    flat = logits[:, :-1].float().flatten(0, 1)
    loss = cross_entropy(flat, tokens[:, 1:].flatten(), reduction="none")
    if full is None:
        return loss
    mine = flat.log_softmax(dim=-1)
    theirs = full.float().flatten(0, 1).log_softmax(dim=-1)
    return loss + (theirs.exp() * (theirs - mine)).sum(dim=-1)


def seconds_of_skipping(
    model: LlamaForCausalLM,
    game: ModelGame,
    tokens: Tensor,
    coalitions: Coalitions,
    kl: bool,
    now: Clock,
) -> float:
    """One coalition at a time, cut layers skipped."""
    with torch.no_grad():
        whole = model(tokens, use_cache=False).logits[:, :-1] if kl else None
        began = now()
        for coalition in coalitions:
            with routed(model, game.stack, coalition.tolist()):
                plain_loss(model(tokens, use_cache=False).logits, tokens, whole)
        return now() - began


def seconds_of_the_paper(
    model: LlamaForCausalLM,
    game: ModelGame,
    tokens: Tensor,
    coalitions: Coalitions,
    kl: bool,
    now: Clock,
) -> float:
    """One coalition at a time, cut layers cloned, zeroed, computed all the same, and restored."""
    with torch.no_grad():
        whole = model(tokens, use_cache=False).logits[:, :-1] if kl else None
        began = now()
        for coalition in coalitions:
            with zeroed([game.stack.layers[i] for i in np.flatnonzero(~coalition)]):
                plain_loss(model(tokens, use_cache=False).logits, tokens, whole)
        return now() - began


@contextmanager
def zeroed(layers: list[torch.nn.Module]) -> Iterator[None]:
    """The published way to take a layer out."""
    kept = [{n: p.clone() for n, p in layer.named_parameters()} for layer in layers]
    for layer in layers:
        for parameter in layer.parameters():
            parameter.zero_()
    yield
    for layer, weights in zip(layers, kept, strict=True):
        for name, parameter in layer.named_parameters():
            parameter.copy_(weights[name])


def _median(call: Callable[[], object], now: Clock) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        began = now()
        call()
        seconds.append(now() - began)
    return statistics.median(seconds[1:])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the engine.")
    parser.add_argument("--cases", nargs="*", default=[], help="names of cases; default all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--output", type=Path, default=Path("engine.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
