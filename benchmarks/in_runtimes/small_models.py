"""Small random models of many families, in real formats, with head widths that runtimes take."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from coterie.models.cutting.rope import with_plain_rope

_SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.08,
    "tie_word_embeddings": False,
}
_SLIDING = {"sliding_window": 8, "head_dim": 32, "query_pre_attn_scalar": 32}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}

FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "mistral": {"head_dim": 32, "sliding_window": None},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 32},
    "qwen3_moe": {"head_dim": 32, "norm_topk_prob": True, **_EXPERTS},
    "mixtral": {"num_local_experts": 4, "head_dim": 32, "sliding_window": None},
    "olmo2": {},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    "granite": {"embedding_multiplier": 2.0, "attention_multiplier": 0.18, "logits_scaling": 2.0},
    "phi3": {"pad_token_id": 0, "sliding_window": None, "num_key_value_heads": 4},
    "stablelm": {"partial_rotary_factor": 0.25},
    "starcoder2": {"sliding_window": None, "tie_word_embeddings": True},
    "gemma": {"head_dim": 32, "tie_word_embeddings": True},
    "glm4": {"head_dim": 32, "pad_token_id": 0},
    "exaone4": {"head_dim": 32, "sliding_window": None, "layer_types": ["full_attention"] * 8},
    "falcon_h1": {
        "head_dim": 32, "mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32,
        "mamba_d_state": 32, "mamba_n_groups": 1, "mamba_expand": 1,
    },
    "gemma2": {**_SLIDING, "tie_word_embeddings": True},
    "gemma3_text": {**_SLIDING, "num_hidden_layers": 12, "tie_word_embeddings": True},
    "cohere2": {
        "sliding_window": 8, "head_dim": 32, "tie_word_embeddings": True, "rotary_pct": 1.0,
    },
    "gpt_oss": {
        "head_dim": 32, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2,
    },
    "smollm3": {"pad_token_id": 0},
    "exaone4, sliding": {
        "head_dim": 32, "sliding_window": 8, "sliding_window_pattern": 4,
        "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2,
    },
    "gemma2, window of 64": {**_SLIDING, "sliding_window": 64, "tie_word_embeddings": True},
    "cohere2, window of 64": {
        "sliding_window": 64, "head_dim": 32, "tie_word_embeddings": True, "rotary_pct": 1.0,
    },
    "gpt_oss, MXFP4": {
        "head_dim": 32, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2,
        "intermediate_size": 128,
    },
}  # fmt: skip
"""What a family's small config needs beside the common shape; its type is before the comma."""

_PUBLISHED: dict[str, dict[str, object]] = {
    "exaone4": {"rope_scaling": None, "sliding_window_pattern": None},
    "exaone4, sliding": {"rope_scaling": None, "sliding_window_pattern": "LLLG"},
    "glm4": {"partial_rotary_factor": 0.5},
    "stablelm": {"partial_rotary_factor": 0.25},
    "qwen3_moe": {"num_experts": 4},
    "cohere2": {"sliding_window_pattern": 4},
    "cohere2, window of 64": {"sliding_window_pattern": 4},
}
"""What published files of a family say at the top, and transformers 5 does not write there."""

KEPT, BROKEN = (2, 3, 4, 5), (1, 4)
"""Layers to cut: a whole period of two or four, and what breaks both."""

KEPT_OF_SIX = (3, 4, 5, 6, 7, 8)
"""Layers to cut of a model whose period is six."""


def save(family: str, folder: Path, tokenizer: str) -> None:
    """A model of a family with this tokenizer, the same every time."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    fields = {**_SHAPE, **ends, **FAMILIES[family], "vocab_size": len(words)}
    config = AutoConfig.for_model(family.partition(",")[0], **fields)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            # Norms and biases that are all alike would hide what is mistaken for another.
            if tensor.ndim == 1 and "A_log" not in name and "dt_bias" not in name:
                tensor.add_(0.1 * torch.randn_like(tensor))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    _as_published(folder, family, config)
    if family.endswith("MXFP4"):
        _pack(folder)


def _as_published(folder: Path, family: str, config: object) -> None:
    """Say in config.json what published files say there."""
    file = folder / "config.json"
    told = with_plain_rope({**json.loads(file.read_text()), **_PUBLISHED.get(family, {})}, config)
    file.write_text(json.dumps(told, indent=2))


def _pack(folder: Path) -> None:
    """Random experts in four bits, in the form of OpenAI's checkpoints."""
    file, rng = folder / "model.safetensors", torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in load_file(file).items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = tensor.bfloat16()
            continue
        experts, inner, outer = tensor.shape
        shape = (experts, outer, inner // 32, 16)
        tensors[f"{name}_blocks"] = torch.randint(
            0, 256, shape, generator=rng, dtype=torch.int32
        ).to(torch.uint8)
        # Exponents about 2 to the power of −5, so that weights are as large as others.
        tensors[f"{name}_scales"] = torch.randint(
            121, 124, shape[:3], generator=rng, dtype=torch.int32
        ).to(torch.uint8)
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    kept_whole = ["model.layers.*.self_attn", "model.layers.*.mlp.router"]
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [*kept_whole, "model.embed_tokens", "lm_head"],
    }
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}, indent=2))


def cuts_of(family: str) -> dict[str, tuple[int, ...]]:
    """The cuts that are tried, by name."""
    return {"pattern kept": KEPT_OF_SIX if family == "gemma3_text" else KEPT, "broken": BROKEN}
