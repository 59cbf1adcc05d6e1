"""Cut a large random checkpoint by a third in a process of its own, and print what memory it took.

    python benchmarks/cut_large.py --work DIR          about 9 GB of disk, which is given back

Writes a sharded bfloat16 Llama (width 4096, 10 layers, 4.6 GB), cuts four layers out of it, checks
some tensors byte by byte, and prints the peak resident memory (VmHWM) of the process that cut. The
promise is twice the largest tensor plus 1 GB.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig

from coterie.models.cutting.structure import meta_model
from coterie.models.files.weights import INDEX

KEPT = (0, 1, 3, 5, 8, 9)
CONFIG = LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=10,
    num_attention_heads=32,
    vocab_size=32000,
    architectures=["LlamaForCausalLM"],
    dtype="bfloat16",
)

CUTTER = """
import json, sys, time
from pathlib import Path
from coterie.models.files.sources import resolve
from coterie.models.cutting.write import write_cut

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

source = resolve(sys.argv[1])
before, began = peak(), time.perf_counter()
kept = json.loads(sys.argv[3])
written = write_cut(source, kept, Path(sys.argv[2]), max_shard_bytes=10**9)
seconds = time.perf_counter() - began
print(json.dumps({"before": before, "peak": peak(), "seconds": seconds, "bytes": written.n_bytes}))
"""


def write_random(folder: Path) -> int:
    """Write the checkpoint, one shard per layer; returns the bytes of its largest tensor."""
    folder.mkdir()
    CONFIG.save_pretrained(folder)
    shapes = {name: p.shape for name, p in meta_model(CONFIG).named_parameters()}
    shards: dict[str, list[str]] = {}
    for name in shapes:
        part = name.split(".")[2] if ".layers." in name else "ends"
        shards.setdefault(f"model-{part}.safetensors", []).append(name)
    rng = np.random.default_rng(0)
    for file, names in shards.items():
        tensors = {name: _random(shapes[name], rng) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, names in shards.items() for name in names}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return 2 * max(shape.numel() for shape in shapes.values())


def _random(shape: torch.Size, rng: np.random.Generator) -> torch.Tensor:
    bits = rng.integers(0, 2**15, size=tuple(shape), dtype=np.int16)
    return torch.from_numpy(bits).view(torch.bfloat16)


def check(whole: Path, cut: Path) -> int:
    """Compare one tensor of every kept layer with its original; returns how many."""
    new_map = json.loads((cut / INDEX).read_text())["weight_map"]
    for place, player in enumerate(KEPT):
        new = f"model.layers.{place}.mlp.down_proj.weight"
        old = f"model.layers.{player}.mlp.down_proj.weight"
        with (
            safe_open(whole / f"model-{player}.safetensors", framework="pt") as before,
            safe_open(cut / new_map[new], framework="pt") as after,
        ):
            one, other = before.get_tensor(old), after.get_tensor(new)
            if not torch.equal(one.view(torch.int16), other.view(torch.int16)):
                raise SystemExit(f"{new} is not {old}")
    return len(KEPT)


def main() -> None:
    """Write, cut, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    work = Path(tempfile.mkdtemp(dir=parser.parse_args().work))
    try:
        largest = write_random(work / "whole")
        asked = [str(work / "whole"), str(work / "cut"), json.dumps(KEPT)]
        command = [sys.executable, "-c", CUTTER, *asked]
        done = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        compared = check(work / "whole", work / "cut")
        size = sum(file.stat().st_size for file in (work / "whole").glob("*.safetensors"))
        allowed = 2 * largest / 2**20 + 1024
        print(f"source: {size / 1e9:.2f} GB in bfloat16, largest tensor {largest / 1e6:.0f} MB")
        print(f"cut to {len(KEPT)} of 10 layers: {done['bytes'] / 1e9:.2f} GB")
        print(f"seconds: {done['seconds']:.1f}")
        print(f"peak memory: {done['peak']:.0f} MiB, of which imports {done['before']:.0f} MiB")
        print(f"allowed: {allowed:.0f} MiB")
        print(f"tensors compared byte by byte: {compared}")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
