"""Run by another environment's Python: llm-compressor quantizes a checkpoint and reads it back.

It knows nothing of Coterie, of which that environment need not have a copy. Its one argument is a
folder with ``job.json`` and ``texts.safetensors``; it leaves ``result.safetensors`` there.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

GROUPS = (128, 64, 32)
"""Inputs that share a scale: the first that divides every width."""

TOKENS = 2_048
"""Tokens of one forward pass."""

UNTOUCHED = re.compile(r"(^|\.)(router|gate)$|vision|visual|audio|speech")
"""Linear modules that stay as they are, beside the head: they choose experts, or read no text."""

PACKAGES = ("llmcompressor", "compressed-tensors", "torch", "transformers")


class QuantizationJob(TypedDict):
    """What is asked for."""

    scheme: str
    model: str
    """Folder of the checkpoint; ``output`` is an empty one."""
    output: str
    device: str
    trust: bool
    """Whether the model's own Python files may run."""


def run_job(folder: Path) -> None:
    """Quantize, save, read back, and judge before and after."""
    job: QuantizationJob = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    texts = load_file(folder / "texts.safetensors")
    model = load(job["model"], job)
    # Judged here, because only this environment can load what it will have written.
    found = {"before": losses(model, texts["judges"])}
    group = apply_recipe(model, texts["calibration"], job)
    # llm-compressor may have moved parts of the model while it calibrated.
    nn.Module.to(model, job["device"])
    found["saved"] = logits(model, texts["checked"])
    model.save_pretrained(job["output"], save_compressed=True)
    del model
    model = load(job["output"], job)
    found["read"] = logits(model, texts["checked"])
    found["after"] = losses(model, texts["judges"])
    metadata = {
        "group_size": str(group or 0),
        "versions": json.dumps({name: version(name) for name in PACKAGES}),
    }
    save_file({name: one.contiguous() for name, one in found.items()}, folder / "made", metadata)
    # Under its name only when whole: whoever started this script looks for the name.
    (folder / "made").rename(folder / "result.safetensors")


def apply_recipe(model: PreTrainedModel, calibration: Tensor, job: QuantizationJob) -> int | None:
    """Quantize in place; returns how many inputs share a scale.

    Args:
        model: Changed in place.
        calibration: Ids ``(n_sequences, length)``.
        job: What is asked for.
    """
    from llmcompressor import oneshot

    taken, left = linear_names(model)
    group = group_size(model, taken)
    data = TensorDataset(calibration)
    oneshot(
        model=model,
        processor=AutoTokenizer.from_pretrained(job["model"], trust_remote_code=job["trust"]),
        dataset=DataLoader(data, batch_size=at_once(calibration), collate_fn=as_batch),
        recipe=recipe(job["scheme"], left, group),
    )
    return group


def load(folder: str, job: QuantizationJob) -> PreTrainedModel:
    """A checkpoint in its own dtype, ready to predict."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", trust_remote_code=job["trust"], local_files_only=True
    )
    nn.Module.to(model, job["device"])
    return model.eval()


def linear_names(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    """The linear modules that are quantized, and those that are left."""
    head = model.get_output_embeddings()
    taken: list[str] = []
    left: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            (left if module is head or UNTOUCHED.search(name) else taken).append(name)
    return taken, left


def group_size(model: PreTrainedModel, names: Sequence[str]) -> int | None:
    """Inputs that share a scale; None gives every output one scale."""
    widths = [cast("nn.Linear", model.get_submodule(name)).in_features for name in names]
    # A group may not reach across the end of a row.
    return next((size for size in GROUPS if all(width % size == 0 for width in widths)), None)


def recipe(scheme: str, left: list[str], group: int | None) -> list[object]:
    """What llm-compressor is asked to do.

    Args:
        scheme: One of `RECIPES`.
        left: Linear modules that stay as they are.
        group: Inputs that share a scale; None gives every output one scale.
    """
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    made = RECIPES[scheme]
    weights = QuantizationArgs(
        num_bits=4,
        type="int",
        symmetric=made.symmetric,
        strategy="channel" if group is None else "group",
        group_size=group,
    )
    return made.modifiers(
        {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}, left
    )


def _gptq(groups: dict[str, object], left: list[str]) -> list[object]:
    """GPTQ, arXiv:2210.17323."""
    from llmcompressor.modifiers.gptq import GPTQModifier

    return [GPTQModifier(config_groups=groups, ignore=left)]


def _awq(groups: dict[str, object], left: list[str]) -> list[object]:
    """AWQ, arXiv:2306.00978."""
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.cuda.is_available():
        # Version 0.14 pins memory for an accelerator, and fails where there is none.
        IntermediatesCache.pin_memory = lambda *_, **__: None
    return [AWQModifier(), QuantizationModifier(config_groups=groups, ignore=left)]


@dataclass(frozen=True)
class Recipe:
    """One scheme: its modifiers, and whether a weight's scale has no zero point."""

    modifiers: Callable[[dict[str, object], list[str]], list[object]]
    symmetric: bool


RECIPES = {
    "gptq": Recipe(_gptq, symmetric=True),
    "awq": Recipe(_awq, symmetric=False),  # AWQ is published with zero points
}
"""The schemes by name, with 4-bit weights."""


def as_batch(rows: Sequence[tuple[Tensor]]) -> dict[str, Tensor]:
    """Sequences as a model takes them."""
    ids = torch.stack([row for (row,) in rows])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def at_once(tokens: Tensor) -> int:
    """Sequences that are read together."""
    return max(1, TOKENS // tokens.shape[1])


@torch.no_grad()
def losses(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood of each sequence, nats per token, float64."""
    parts = []
    for ids in tokens.to(model.device).split(at_once(tokens)):
        table = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        parts.append(cross_entropy(table.mT, ids[:, 1:], reduction="none").mean(1).double().cpu())
    return torch.cat(parts)


@torch.no_grad()
def logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Float32 logits on the CPU."""
    return model(input_ids=tokens.to(model.device), use_cache=False).logits.float().cpu()


if __name__ == "__main__":
    run_job(Path(sys.argv[1]))
