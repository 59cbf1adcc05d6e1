"""Evaluate many coalitions of a checkpoint that is never whole in memory, in one pass over it.

Writes a random sharded bf16 Llama checkpoint (once), observes coalitions of the paper's sizes on
one text, and prints what was read, what reading cost beside computing, and the peak of memory.

    python benchmarks/streaming.py [--folder DIR] [--layers 24] [--width 4096] [--coalitions 32]
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from coterie.engine.streamed_game import StreamedGame
from coterie.game.designs import draw_strata
from coterie.game.published import paper_sizes
from coterie.models.files.sources import resolve

LENGTH, VOCABULARY = 128, 32_000


def main() -> None:
    """Write the checkpoint if need be, evaluate, and print."""
    options = _options()
    if not (options.folder / "config.json").exists():
        write_checkpoint(options.folder, options.layers, options.width)
    torch.set_num_threads(options.threads)
    source = resolve(str(options.folder))
    size = sum(entry.n_bytes for entry in source.entries)
    print(f"checkpoint  {size / 1e9:.2f} GB in {len(source.files)} files, bf16")
    rng = np.random.default_rng(0)
    strata = draw_strata(
        options.layers, paper_sizes(options.layers), 2 * options.coalitions, rng=rng
    )
    rows = np.concatenate([stratum.coalitions for stratum in strata])
    coalitions = rows[rng.permutation(len(rows))[: options.coalitions]]
    tokens = torch.randint(VOCABULARY, (1, LENGTH), generator=torch.manual_seed(0))
    began = time.perf_counter()
    game = StreamedGame(source, tokens)
    ready = time.perf_counter()
    before = game.traffic.bytes_read, game.traffic.seconds_reading, game.traffic.seconds_waiting
    nll = np.concatenate([b.observations.nll for b in game.observe(coalitions, np.arange(1))])
    seconds = time.perf_counter() - ready
    read = game.traffic.bytes_read - before[0]
    reading = game.traffic.seconds_reading - before[1]
    waiting = game.traffic.seconds_waiting - before[2]
    work = game.plan(coalitions)
    print(f"asked       {len(coalitions)} coalitions × {LENGTH} tokens, the full model beside them")
    print(f"ran         {work.layer_executions} layer executions (sharing ×{work.sharing:.2f})")
    print(f"set up      {ready - began:.1f} s")
    print(f"one pass    {seconds:.1f} s: {reading:.1f} s reading, {waiting:.1f} s of it waited for")
    print(f"overlap     {1 - waiting / reading:.2f} of the reading hidden behind computing")
    print(f"read        {read / 1e9:.2f} GB, {read / len(coalitions) / 1e9:.3f} GB per coalition")
    print(f"peak memory {peak_bytes() / 1e9:.2f} GB resident (VmHWM)")
    print(f"losses      {nll.min():.4f} to {nll.max():.4f} nats per token")
    print(f"machine     {platform.machine()}, {options.threads} threads, torch {torch.__version__}")


def write_checkpoint(folder: Path, n_layers: int, width: int) -> None:
    """A random Llama, one shard per layer, without ever holding more than a layer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 11 // 4 // 64 * 64,
        num_hidden_layers=n_layers,
        num_attention_heads=width // 128,
        num_key_value_heads=width // 128,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    inner = config.intermediate_size
    where: dict[str, str] = {}
    generator = torch.manual_seed(0)

    def write(number: int, shapes: dict[str, tuple[int, ...]]) -> None:
        file = f"model-{number:05}.safetensors"
        tensors = {name: _random(shape, generator) for name, shape in shapes.items()}
        save_file(tensors, folder / file, {"format": "pt"})
        where.update(dict.fromkeys(tensors, file))

    for layer in range(n_layers):
        prefix = f"model.layers.{layer}"
        attention = {f"{prefix}.self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        mlp = {
            f"{prefix}.mlp.gate_proj.weight": (inner, width),
            f"{prefix}.mlp.up_proj.weight": (inner, width),
            f"{prefix}.mlp.down_proj.weight": (width, inner),
        }
        norms = {
            f"{prefix}.input_layernorm.weight": (width,),
            f"{prefix}.post_attention_layernorm.weight": (width,),
        }
        write(layer, attention | mlp | norms)
    ends = {"model.embed_tokens.weight": (VOCABULARY, width), "model.norm.weight": (width,)}
    write(n_layers, ends | {"lm_head.weight": (VOCABULARY, width)})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    config.save_pretrained(folder)


def _random(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    # One random row block, repeated: what the numbers are does not matter, writing them fast does.
    block = torch.randn(64, shape[1], generator=generator) * 0.02
    return block.repeat(shape[0] // 64, 1).to(torch.bfloat16)


def peak_bytes() -> int:
    """The most memory that was ever resident."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Evaluate a checkpoint layer by layer.")
    default = Path(tempfile.gettempdir()) / "coterie-streaming"
    parser.add_argument("--folder", type=Path, default=default, help="where the checkpoint is")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--coalitions", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


if __name__ == "__main__":
    main()
