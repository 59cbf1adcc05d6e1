"""The engine on a GPU, beside plain skipping, the published loop and the card's own peak.

Random Llamas of known shapes, 16 × 128 tokens, the paper's design at 256 draws, loss and KL. Each
way of being faster is switched on after the other, so that one call shows what each of them gives,
what it costs to set up, and how far its losses are from plain skipping's. Plain skipping and the
published loop are timed on a few of the coalitions and scaled by counted work.

    python benchmarks/gpu.py [--output FILE] [--seconds N] [--cases NAME …] [--device NAME]

A case that fails prints its traceback and the others go on. Every number is a line of JSON in
FILE as soon as it is known; what is there already is not measured again. Without a GPU the same
cases run tiny, which tests the script.
"""

import argparse
import gc
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from coterie.engine.batch_shape import BatchShape
from coterie.engine.cost import Plan, plan
from coterie.engine.model_game import ModelGame
from coterie.engine.streamed_game import StreamedGame
from coterie.game.coalitions import Coalitions
from coterie.models.files.sources import Source
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import find_stack
from engine import Case, coalitions_of, plain_loss, zeroed

SAMPLED = 12
"""Coalitions that plain skipping and the published loop are timed on."""

VARIANTS = {
    "as before": (),
    "rows that fit": (),
    "ahead": ("ahead",),
    "one pass": ("ahead", "one-pass"),
    "fused": ("ahead", "one-pass", "fused"),
    "compiled": ("ahead", "one-pass", "compiled"),
}
"""What is switched on, step by step; the first has the wide batches that used to be chosen."""

KINDS = [
    ("head and softmax", r"read_row|softmax|logsumexp"),
    ("attention", r"flash|fmha|attention|efficient_attention|sdpa"),
    ("matmul", r"gemm|nvjet|cutlass|cublas|xmma|wgmma|aten::(mm|addmm|bmm|linear)$|mkldnn"),
    ("compiled or fused element-wise", r"triton|_norm_|_gate_|_rotate_"),
    ("cat and copy", r"cat|copy|memcpy|clone|memset"),
    ("reduction", r"reduce|aten::(mean|sum|amax|max)$"),
    ("element-wise", r"elementwise|vectorized|aten::|gather|index"),
]
WAITS = r"cuda(Stream|Device|Event)Synchronize|cudaMemcpy(Async)?$"


@dataclass(frozen=True)
class Shape:
    """A random Llama, and the same with tiny numbers."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False

    @property
    def tiny(self) -> "Shape":
        """The shape for a machine without a GPU."""
        return Shape(4, 64, 160, 4, 2, 512, self.tied)


SHAPES = {
    "1B": Shape(16, 2048, 8192, 32, 8, 128256),
    "8B": Shape(32, 4096, 14336, 32, 8, 128256),
    "3B": Shape(36, 2048, 11008, 16, 2, 151936, tied=True),
}


class Bench:
    """Runs steps of cases within a time limit, and keeps every result at once.

    Args:
        output: A file of JSON lines; what it has already is not run again.
        seconds: When to begin nothing more.
        device: What to run on.
    """

    def __init__(self, output: Path, seconds: float, device: torch.device) -> None:
        self.output, self.limit, self.device = output, seconds, device
        self.began = time.perf_counter()
        lines = output.read_text().splitlines() if output.exists() else []
        rows = [json.loads(line) for line in lines]
        self.done = {(row["case"], row["step"]): row for row in rows if "error" not in row}

    @property
    def tiny(self) -> bool:
        """Whether shapes are tiny, for want of a GPU."""
        return self.device.type != "cuda"

    def step(
        self, case: str, step: str, call: Callable[[], dict[str, object]]
    ) -> dict[str, object]:
        """Run one step, unless it is known or time is up; its row, empty where it failed."""
        if (case, step) in self.done:
            return self.done[case, step]
        if (elapsed := time.perf_counter() - self.began) > self.limit:
            print(f"{case}, {step}: skipped, {elapsed:.0f} s are over", flush=True)
            return {}
        began = time.perf_counter()
        try:
            row = call()
        except Exception as error:
            traceback.print_exc()
            row = {"error": f"{type(error).__name__}: {error}"[:500]}
        row = {"case": case, "step": step, **row, "step_seconds": time.perf_counter() - began}
        with self.output.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        if "error" not in row:
            self.done[case, step] = row
        shown = ", ".join(f"{name} {_short(value)}" for name, value in row.items())
        print(f"[{time.perf_counter() - self.began:5.0f} s] {shown}", flush=True)
        self.free()
        return row if "error" not in row else {}

    def free(self) -> None:
        """Give back memory that nothing uses."""
        gc.collect()
        if not self.tiny:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if not self.tiny:
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """Of one call, with the device's work."""
        self.wait()
        began = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - began

    def best(self, call: Callable[[], object], times: int = 5) -> float:
        """The shortest of a few calls, after one that is not timed."""
        call()
        return min(self.seconds(call) for _ in range(1 if self.tiny else times))


def main() -> None:
    """Run the cases in the order of what they are worth."""
    options = _options()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    bench = Bench(options.output, options.seconds, device)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    name = platform.machine() if bench.tiny else torch.cuda.get_device_name(device)
    print(f"{name}, {versions}, Python {platform.python_version()}", flush=True)
    peak = bench.step("machine", "peak", lambda: peaks(bench)).get("tflops", 0.0)
    cases: dict[str, Callable[[], None]] = {
        "1B": lambda: shape_case(bench, "1B", peak, list(VARIANTS)[:-1]),
        "8B": lambda: shape_case(bench, "8B", peak, list(VARIANTS)[:-1]),
        "1B compiled": lambda: shape_case(bench, "1B", peak, ["compiled"]),
        "8B compiled": lambda: shape_case(bench, "8B", peak, ["compiled"]),
        "3B": lambda: shape_case(bench, "3B", peak, ["as before", "fused"]),
        "streaming": lambda: streaming_case(bench),
        "prune": lambda: prune_case(bench),
    }
    for name, case in cases.items():
        if not options.cases or name in options.cases:
            if time.perf_counter() - bench.began > options.seconds:
                print(f"{name}: skipped, time is over", flush=True)
                continue
            try:
                case()
            except Exception:  # outside a step: the other cases go on
                traceback.print_exc()
            bench.free()
    print(f"done in {time.perf_counter() - bench.began:.0f} s", flush=True)


def peaks(bench: Bench) -> dict[str, object]:
    """The card's own limits: a large product of matrices, and a large copy."""
    size, moved = (256, 2**20) if bench.tiny else (8192, 2**31)
    a = torch.randn(size, size, device=bench.device, dtype=torch.bfloat16)
    b = torch.randn(size, size, device=bench.device, dtype=torch.bfloat16)
    product = bench.best(lambda: a @ b, 10)
    raw = torch.empty(moved, dtype=torch.uint8, device=bench.device)
    other = torch.empty_like(raw)
    copied = bench.best(lambda: other.copy_(raw))
    return {"tflops": 2 * size**3 / product / 1e12, "gb_per_second": 2 * moved / copied / 1e9}


@dataclass(eq=False)
class Setting:
    """A model, its texts and the coalitions asked of it."""

    model: LlamaForCausalLM
    tokens: Tensor
    coalitions: Coalitions
    work: Plan
    sample: Coalitions

    @property
    def everything(self) -> np.ndarray:
        """Numbers of all texts."""
        return np.arange(len(self.tokens))

    @property
    def flops(self) -> float:
        """Floating-point operations that the walk cannot do without."""
        config = self.model.config
        layer = sum(p.numel() for p in self.model.model.layers[0].parameters() if p.dim() == 2)
        # Every matrix once a token; attention looks back at half of the text on average.
        token = 2 * layer + 2 * self.tokens.shape[1] * config.hidden_size
        head = 2 * config.hidden_size * config.vocab_size
        return self.work.layer_tokens_executed * token + self.work.head_tokens * head


def shape_case(bench: Bench, name: str, peak: float, variants: list[str]) -> None:
    """One model shape: rivals, the engine with one switch after the other, its parts, a profile."""
    setting = setting_of(bench, SHAPES[name])
    rivals = bench.step(name, "rivals", lambda: rivals_row(bench, setting))
    losses = np.array(rivals.get("nll", np.nan))
    shape: BatchShape | None = None
    if known := bench.done.get((name, "fused")):  # an earlier case has probed it
        shape = BatchShape(known["rows"], known["head_tokens"], known["head_block"])
    done: dict[str, ModelGame] = {}
    for variant in variants:
        vocabulary = setting.model.config.vocab_size
        wide = BatchShape(1024, max(64, 2**28 // vocabulary), vocabulary)
        given = wide if variant == "as before" else shape

        def measured(variant: str = variant, given: BatchShape | None = given) -> dict[str, object]:
            game, row = engine_row(bench, setting, VARIANTS[variant], given)
            done[variant] = game
            return row | compared(setting, row, rivals, losses, peak)

        row = bench.step(name, variant, measured)
        if row and variant != "as before":
            shape = BatchShape(row["rows"], row["head_tokens"], row["head_block"])
        game = done.pop(variant, None)
        if game is not None and variant in ("as before", variants[-1]):
            bench.step(name, f"{variant}, profile", lambda g=game: profile_row(bench, setting, g))
        if game is not None and variant == variants[-1]:
            bench.step(name, f"{variant}, parts", lambda g=game: parts_row(bench, setting, g))
            bench.step(name, f"{variant}, questions", lambda g=game: asked_row(bench, setting, g))
        del game


def setting_of(bench: Bench, shape: Shape) -> Setting:
    """A random model made on the device, random texts, and the paper's design."""
    torch.manual_seed(0)
    shape = shape.tiny if bench.tiny else shape
    n_sequences, length, draws = (4, 32, 24) if bench.tiny else (16, 128, 256)
    model = random_llama(shape, bench.device)
    tokens = torch.randint(shape.vocabulary, (n_sequences, length))
    case = Case("", {}, shape.layers, shape.vocabulary, "paper", draws)
    coalitions, _ = coalitions_of(case)
    order = np.random.default_rng(1).permutation(len(coalitions))
    work = plan(coalitions, n_sequences, length)
    return Setting(model, tokens, coalitions, work, coalitions[np.sort(order[:SAMPLED])])


def random_llama(shape: Shape, device: torch.device) -> LlamaForCausalLM:
    """A Llama in bfloat16 whose weights are drawn on the device itself."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
    )
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.to(device).eval()


def rivals_row(bench: Bench, setting: Setting) -> dict[str, object]:
    """Plain skipping and the published loop on a few coalitions, scaled by counted work."""
    model, tokens = setting.model, setting.tokens.to(bench.device)
    stack = find_stack(model)
    kept: list[Tensor] = []
    with torch.no_grad():
        whole = model(tokens, use_cache=False).logits[:, :-1]

        def skipping() -> None:
            kept.clear()
            for coalition in setting.sample:
                with routed(model, stack, coalition.tolist()):
                    logits = model(tokens, use_cache=False).logits
                    kept.append(plain_loss(logits, tokens, whole))

        def published() -> None:
            for coalition in setting.sample:
                with zeroed([stack.layers[i] for i in np.flatnonzero(~coalition)]):
                    plain_loss(model(tokens, use_cache=False).logits, tokens, whole)

        skipping_seconds = bench.best(skipping, 1)
        published_seconds = bench.best(published, 1)
        losses = []
        for coalition in setting.sample:
            with routed(model, stack, coalition.tolist()):
                logits = model(tokens, use_cache=False).logits
                one = plain_loss(logits, tokens, None).unflatten(0, (len(tokens), -1))
                losses.append(one.double().mean(dim=1).tolist())
    some = plan(setting.sample, *setting.tokens.shape).layer_tokens_asked
    return {
        "skipping": skipping_seconds * setting.work.layer_tokens_asked / some,
        "published": published_seconds * len(setting.coalitions) / len(setting.sample),
        "scaled_from": len(setting.sample),
        "nll": losses,
    }


def engine_row(
    bench: Bench, setting: Setting, parts: tuple[str, ...], shape: BatchShape | None
) -> tuple[ModelGame, dict[str, object]]:
    """Set up a game with some parts switched on, and observe every coalition."""
    bench.free()
    built: list[ModelGame] = []

    def build() -> None:
        built.append(ModelGame(setting.model, setting.tokens, shape=shape, accelerated=parts))

    if not bench.tiny:
        torch.cuda.reset_peak_memory_stats(bench.device)
    setup = bench.seconds(build)
    game = built[0]
    assert game.walker is not None, game.mode
    game.walker.full(setting.everything)
    warm = setting.coalitions[:: max(1, len(setting.coalitions) // 16)]
    for _ in game.observe(warm, setting.everything):  # kernels are loaded by their first use
        pass
    setup_peak = _peak_gb(bench)
    if not bench.tiny:
        torch.cuda.reset_peak_memory_stats(bench.device)
    nll = np.full((len(setting.coalitions), len(setting.tokens)), np.nan)

    def observe() -> None:
        for block in game.observe(setting.coalitions, setting.everything):
            nll[np.ix_(block.rows, block.columns)] = block.observations.nll

    seconds = bench.seconds(observe)
    return game, {
        "engine": seconds,
        "setup": setup,
        "peak_gb": _peak_gb(bench),
        "setup_peak_gb": setup_peak,
        "weights_gb": sum(p.numel() * p.element_size() for p in setting.model.parameters()) / 1e9,
        **game.shape.to_dict(),
        "used": used(game),
        "remarks": game.remarks,
        "nll": nll.tolist(),
    }


def used(game: ModelGame) -> str:
    """Which parts are on, after they were tried."""
    assert game.walker is not None
    batches, layers = game.walker.batches, game.walker.layers
    on = {
        "ahead": game.walker.ahead > 0,
        "one-pass": batches.rows_read is not None,
        "compiled": "compiled" in getattr(getattr(layers, "apply", None), "__qualname__", ""),
        "fused": hasattr(getattr(layers, "apply", None), "replaced"),
    }
    return ", ".join(name for name, there in on.items() if there) or "nothing"


def compared(
    setting: Setting,
    row: dict[str, object],
    rivals: dict[str, object],
    losses: np.ndarray,
    peak: float,
) -> dict[str, object]:
    """An engine's row beside the rivals, the card's peak and plain skipping's losses."""
    seconds = float(row["engine"])  # type: ignore[arg-type]
    tflops = setting.flops / seconds / 1e12
    found = np.array(row.pop("nll"))
    where = [int(np.flatnonzero((setting.coalitions == c).all(axis=1))[0]) for c in setting.sample]
    more: dict[str, object] = {"tflops": tflops, "share_of_peak": tflops / max(peak, 1e-9)}
    if rivals:
        more["against_skipping"] = float(rivals["skipping"]) / seconds  # type: ignore[arg-type]
        more["against_published"] = float(rivals["published"]) / seconds  # type: ignore[arg-type]
        more["largest_difference"] = float(np.abs(found[where] - losses).max())
    return more


def parts_row(bench: Bench, setting: Setting, game: ModelGame) -> dict[str, object]:
    """One layer and the head on all texts, each at its best batch: the floor, and rivals' bound."""
    assert game.walker is not None
    walker, batches = game.walker, game.walker.batches
    layers, work = walker.layers, setting.work
    middle, n = len(layers.plays) // 2, len(setting.tokens)
    prelude = layers.prelude(setting.tokens)
    plain = setting.model.model.layers[middle]
    with torch.no_grad():
        per_copy, eager = {}, {}
        for copies in (1, 2) if bench.tiny else (1, 2, 4, 8, 16):
            state = prelude.embedded.repeat(copies, 1, 1)
            args, kwargs = prelude.arguments(middle, state, 0, copies)
            per_copy[copies * n] = bench.best(lambda: layers.run(prelude, middle, state, 0, copies))  # noqa: B023
            eager[copies * n] = bench.best(lambda: plain(*args, **kwargs))  # noqa: B023
        state = prelude.embedded
        full = walker.full(setting.everything)
        tokens = setting.tokens.to(bench.device)
        states = [state] * 16
        ends = game.walker.head.normed(state).flatten(0, 1)
        made = bench.best(lambda: walker.head.made(ends))
        read = bench.best(lambda: batches.read(states, tokens, full)) / len(states)
        whole = setting.model(tokens, use_cache=False).logits[:, :-1]
        plainly = bench.best(
            lambda: plain_loss(
                setting.model.lm_head(setting.model.model.norm(state)), tokens, whole
            )
        )
    layer = min(took * n / rows for rows, took in per_copy.items())
    layer_plain = min(took * n / rows for rows, took in eager.items())
    asked = work.layer_tokens_asked // setting.tokens.numel()
    count = work.distinct_coalitions
    floor = work.layer_executions * layer + count * min(read, plainly)
    plain_floor = work.layer_executions * layer_plain + count * min(read, plainly)
    return {
        "layer_ms": layer * 1e3,
        "layer_ms_by_rows": {str(rows): took * 1e3 for rows, took in per_copy.items()},
        "plain_layer_ms": layer_plain * 1e3,
        "plain_layer_ms_by_rows": {str(rows): took * 1e3 for rows, took in eager.items()},
        "head_ms": read * 1e3,
        "projection_ms": made * 1e3,
        "plain_head_ms": plainly * 1e3,
        "floor": floor,
        "plain_floor": plain_floor,
        "skipping_bound": (asked * layer_plain + count * plainly) / plain_floor,
        "executions": work.layer_executions,
        "asked": asked,
        "distinct": count,
        "sharing": work.sharing,
    }


def asked_row(bench: Bench, setting: Setting, game: ModelGame) -> dict[str, object]:
    """The same coalitions asked as the verbs ask: in questions of a few, neighbours together."""
    order = np.lexsort(setting.coalitions.T[::-1])
    questions = game.questions(setting.coalitions[order])
    one_by_one: list[float] = []

    def observe() -> None:
        for question in questions:
            began = time.perf_counter()
            for _ in game.observe(question, setting.everything):
                pass
            one_by_one.append(time.perf_counter() - began)

    return {"engine": bench.seconds(observe), "questions": len(questions), "each": one_by_one}


def profile_row(bench: Bench, setting: Setting, game: ModelGame) -> dict[str, object]:
    """Where the time goes, by kind of kernel, on a quarter of the coalitions."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if not bench.tiny:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    some = setting.coalitions[::4]

    def observe() -> None:
        for _ in game.observe(some, setting.everything):
            pass

    alone = bench.seconds(observe)
    with torch.profiler.profile(activities=activities) as profiler:
        seconds = bench.seconds(observe)
    by_kind: dict[str, float] = {}
    kernels: list[tuple[float, str]] = []
    waits = 0.0
    for event in profiler.key_averages():
        on_device = "CUDA" in str(event.device_type)
        if re.search(WAITS, event.key) and not on_device:
            waits += event.self_cpu_time_total
        if not on_device and not bench.tiny:
            continue
        took = _device_time(event) if on_device else event.self_cpu_time_total
        kind = next((kind for kind, names in KINDS if re.search(names, event.key.lower())), "other")
        by_kind[kind] = by_kind.get(kind, 0.0) + took
        kernels.append((took, event.key[:90]))
    busy = sum(by_kind.values())
    slowest = sorted(kernels, reverse=True)[:12]
    return {
        "seconds": alone,
        "seconds_profiled": seconds,
        "busy_share": busy / 1e6 / alone,
        "wait_share_of_cpu": waits / 1e6 / seconds,
        "by_kind": {kind: took / busy for kind, took in sorted(by_kind.items())},
        "slowest": {name: round(took / busy, 4) for took, name in slowest},
    }


def _device_time(event: object) -> float:
    for name in ("self_device_time_total", "self_cuda_time_total"):
        if hasattr(event, name):
            return float(getattr(event, name))
    return 0.0


def streaming_case(bench: Bench) -> None:
    """A model that lies on disk and is streamed through a card whose use is capped."""
    shape = Shape(16, 2560, 10240, 20, 4, 32000)
    bench.step("streaming", "3.3 GB, capped at 1.6 GB", lambda: streaming_row(bench, shape, 1.6))


def streaming_row(bench: Bench, shape: Shape, cap_gb: float) -> dict[str, object]:
    """Write a random model, stream it, and print how much of the reading was hidden."""
    setting = setting_of(bench, shape)
    coalitions = setting.coalitions[:: max(1, len(setting.coalitions) // 64)]
    game = ModelGame(setting.model, setting.tokens)
    expected = np.full((len(coalitions), len(setting.tokens)), np.nan)
    for block in game.observe(coalitions, setting.everything):
        expected[np.ix_(block.rows, block.columns)] = block.observations.nll
    found = np.full_like(expected, np.nan)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        setting.model.save_pretrained(folder)
        written = time.perf_counter() - began
        tokens, everything = setting.tokens, setting.everything
        del game, setting
        bench.free()
        if not bench.tiny:
            total = torch.cuda.mem_get_info(bench.device)[1]
            torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gb * 1e9 / total))
            torch.cuda.reset_peak_memory_stats(bench.device)
        try:
            source = Source("random", Path(folder), None, False)
            began = time.perf_counter()
            streamed = StreamedGame(source, tokens, dtype=torch.bfloat16, device=bench.device)
            opened = time.perf_counter() - began
            before = streamed.traffic

            def observe() -> None:
                for block in streamed.observe(coalitions, everything):
                    found[np.ix_(block.rows, block.columns)] = block.observations.nll

            seconds = bench.seconds(observe)
            after = streamed.traffic
        finally:
            if not bench.tiny:
                torch.cuda.set_per_process_memory_fraction(1.0)
    reading = after.seconds_reading - before.seconds_reading
    waiting = after.seconds_waiting - before.seconds_waiting
    return {
        "engine": seconds,
        "written": written,
        "opened": opened,
        "reading": reading,
        "waiting": waiting,
        "overlap": 1 - waiting / max(reading, 1e-9),
        "gb_read": (after.bytes_read - before.bytes_read) / 1e9,
        "passes": after.passes - before.passes,
        "peak_gb": _peak_gb(bench),
        "coalitions": len(coalitions),
        "largest_difference": float(np.abs(found - expected).max()),
    }


def prune_case(bench: Bench) -> None:
    """The whole command on the model that ships with the package."""
    bench.step("prune", "reference, 3 layers", lambda: prune_row(bench))


def prune_row(bench: Bench) -> dict[str, object]:
    """`coterie prune reference`, as a user runs it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "coterie", "prune", "reference", "--remove", "3"]
        command += ["--device", str(bench.device), "--output", f"{folder}/cut"]
        began = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        seconds = time.perf_counter() - began
    if ended.returncode:
        raise RuntimeError(f"{ended.stdout[-1500:]}\n{ended.stderr[-1500:]}")
    return {"seconds": seconds, "said": ended.stdout[-1500:]}


def _peak_gb(bench: Bench) -> float:
    return 0.0 if bench.tiny else torch.cuda.max_memory_allocated(bench.device) / 1e9


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return text if len(text) < 700 else f"{text[:200]}…"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, default=Path("gpu.jsonl"), help="lines of JSON")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing after these")
    parser.add_argument("--cases", nargs="*", default=[], help="names of cases; default all")
    parser.add_argument("--device", help="default cuda where there is one")
    return parser.parse_args()


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
