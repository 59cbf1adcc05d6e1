"""Cut eight kinds of model by a third and reload them where Coterie does not exist.

    python benchmarks/plain_reload.py                 all eight families
    python benchmarks/plain_reload.py llama mamba2    these alone

For each family a small random checkpoint is written and cut by a third, streaming from file to
file; the logits of the whole model with those layers skipped are kept. Then a process of its own,
which may import transformers but never Coterie, loads every cut checkpoint as anybody would, and
gives its logits and what it generates greedily, with its cache and without.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import Tensor
from transformers import GenerationConfig
from transformers.utils import logging

from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import find_stack
from coterie.testing.small_sizes import VOCABULARY
from coterie.testing.tiny import tiny_model

FAMILIES = ("llama", "qwen3", "gemma3", "mixtral", "gpt_oss", "mamba2", "falcon_h1", "rwkv")
LAYERS = 6
NEW_TOKENS = 12

PLAIN = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

work, new_tokens = Path(sys.argv[1]), int(sys.argv[2])
tokens = torch.load(work / "tokens.pt")
for name in sys.argv[3:]:
    model = AutoModelForCausalLM.from_pretrained(work / name / "cut", dtype="float32").eval()
    if getattr(model.config, "rescale_every", 0):
        model.config.rescale_every = 0  # RWKV-4 would halve its weights in place, for fp16's sake
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
        # No end-of-text token: `generate` would stop at it, or ban it, where bare argmax does not.
        model.generation_config = GenerationConfig(
            max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
        )
        cached = model.generate(tokens[:1], use_cache=True)
        plain = tokens[:1]
        for _ in range(new_tokens):
            best = model(input_ids=plain, use_cache=False).logits[:, -1:].argmax(dim=-1)
            plain = torch.cat([plain, best], dim=1)
    answer = {"class": type(model).__name__, "logits": logits, "cached": cached, "plain": plain}
    torch.save(answer, work / name / "answer.pt")
assert not any(name.split(".")[0] == "coterie" for name in sys.modules), "coterie was imported"
"""
"""All that the other process runs."""


@dataclass(frozen=True)
class Masked:
    """The whole model with the cut layers skipped, to be held against the checkpoint.

    Attributes:
        cut: Layers that went.
        n_bytes: Of the cut checkpoint's tensors.
        logits: Of the masked model, ``(n_sequences, length, vocabulary)``.
        whole_gap: Largest difference between those and the whole model's logits.
        generated: What the masked model generates greedily without a cache, prompt included.
        cache_works: Whether the WHOLE model generates the same with its cache as without.
    """

    cut: tuple[int, ...]
    n_bytes: int
    logits: Tensor
    whole_gap: float
    generated: Tensor
    cache_works: bool


@torch.no_grad()
def write(name: str, work: Path, tokens: Tensor) -> Masked:
    """Write a random checkpoint and its cut, and say what the cut one must do."""
    tiny_model(name, LAYERS).save_pretrained(work / "whole")
    source = resolve(str(work / "whole"))
    model = load_model(source, dtype=torch.float32, device="cpu")
    stack = find_stack(model)
    cut = tuple(stack.unlocked[1::2][: LAYERS // 3])
    kept = [player for player in range(stack.n_players) if player not in cut]
    n_bytes = write_cut(source, kept, work / "cut").n_bytes
    whole = model(input_ids=tokens, use_cache=False).logits
    model.generation_config = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0
    )
    cached = model.generate(tokens[:1], use_cache=True)
    cache_works = torch.equal(cached, _generated(model, tokens[:1]))
    with routed(model, stack, [player in kept for player in range(stack.n_players)]):
        logits = model(input_ids=tokens, use_cache=False).logits
        generated = _generated(model, tokens[:1])
    gap = (whole - logits).abs().max().item()
    return Masked(cut, n_bytes, logits, gap, generated, cache_works)


def _generated(model: transformers.PreTrainedModel, text: Tensor) -> Tensor:
    for _ in range(NEW_TOKENS):
        best = model(input_ids=text, use_cache=False).logits[:, -1:].argmax(dim=-1)
        text = torch.cat([text, best], dim=1)
    return text


def reload(names: list[str], work: Path) -> None:
    """Load every cut checkpoint in a process that cannot have met Coterie."""
    script = [sys.executable, "-c", PLAIN, str(work), str(NEW_TOKENS), *names]
    subprocess.run(script, check=True, cwd=work)


def row(name: str, masked: Masked, answer: dict) -> tuple[str, bool]:
    """One line of the table, and whether all is as it must be."""
    gap = (answer["logits"] - masked.logits).abs().max().item()
    same = torch.equal(answer["plain"], masked.generated)
    cached = torch.equal(answer["cached"], masked.generated)
    told = "yes" if cached else "NO" if masked.cache_works else "nor in the whole model"
    cut = ", ".join(map(str, masked.cut))
    line = (
        f"| {name} | {answer['class']} | {cut} of {LAYERS} | {masked.n_bytes:,}"
        f" | {masked.whole_gap:.2f} | {gap:.1e} | {'yes' if same else 'NO'} | {told} |"
    )
    return line, gap <= 1e-5 and same and (cached or not masked.cache_works)


def main() -> None:
    """Write, reload, compare; the exit status is 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=FAMILIES)
    names = list(parser.parse_args().families)
    logging.disable_progress_bar()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, VOCABULARY, (2, 24), generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        torch.save(tokens, work / "tokens.pt")
        masked = {name: write(name, work / name, tokens) for name in names}
        reload(names, work)
        rows = [row(name, masked[name], torch.load(work / name / "answer.pt")) for name in names]
    print(
        f"transformers {transformers.__version__}, torch {torch.__version__}, Python"
        f" {platform.python_version()}, {platform.machine()} CPU, float32\n\n"
        "| family | reloaded as | layers cut | bytes | whole − masked | masked − reloaded"
        f" | same {NEW_TOKENS} tokens | with its cache |\n|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(line for line, _ in rows))
    sys.exit(0 if all(right for _, right in rows) else 1)


if __name__ == "__main__":
    main()
