"""Tiny random models of any causal-LM type of the installed transformers, for checks and examples.

A config's own defaults are kept, but every size among its fields is replaced by a small one that
divides the others; what a single type needs beside that is a row of `_BY_TYPE`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from coterie.models.families.fields import COUNT_FIELDS
from coterie.testing.small_sizes import ONCE_SMALL, SMALL, VOCABULARY

INITIALIZER_RANGE = 0.1
"""Spread of random weights: five times the usual, so that every narrow layer matters."""


Fields = Mapping[str, object]

# Multi-head latent attention has as many heads for keys as for queries.
_MLA: Fields = {"num_key_value_heads": 4}
# Sections of rotary positions have to fill half of a small head.
_MROPE: Fields = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [1, 1, 2],
    }
}
_MAMBA2: Fields = {"mamba_n_heads": 8, "mamba_d_head": 8}


@dataclass(frozen=True)
class Cycle:
    """A list with one entry per layer: the words over and over."""

    words: tuple[object, ...]

    def of(self, n_layers: int) -> list[object]:
        """The list for so many layers."""
        return [self.words[i % len(self.words)] for i in range(n_layers)]


# Every kind of layer occurs, so each kind can be cut and kept.
_HYBRID = Cycle(("linear_attention", "hybrid", "linear_attention"))
_LOCAL_GLOBAL = Cycle(("sliding_attention", "full_attention"))

_BY_TYPE: dict[str, Fields] = {
    "axk1": _MLA,
    "axk2": _MLA,
    "bailing_hybrid": _MLA,
    "bamba": {**_MAMBA2, "attn_layer_indices": [1, 4]},
    "cohere2": {"layer_types": _LOCAL_GLOBAL},
    "cohere_compass_text": {
        "layer_types": _LOCAL_GLOBAL,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10_000.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 64, "moe_top_k": 2},
    },
    "deepseek_v2": {**_MLA, "first_k_dense_replace": 1, "num_experts_per_tok": 2},
    "deepseek_v3": {**_MLA, "first_k_dense_replace": 2},
    "deepseek_v32": _MLA,
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 2,
    },
    "dory": {"n_input_layers": 2, "n_recurrent_layers": 2, "n_output_layers": 2},
    "dots3_note_text": {
        **_MLA,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 8,
    },
    "emu3": {"vocabulary_map": {"<image>": 5, "<|extra_200|>": 6}},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 64},
    "gemma2": {"layer_types": _LOCAL_GLOBAL},
    "gemma3_text": {"layer_types": _LOCAL_GLOBAL},
    "gemma3n_text": {
        "layer_types": _LOCAL_GLOBAL,
        "num_kv_shared_layers": 2,
        "intermediate_size": 64,
    },
    "gemma4_text": {"layer_types": _LOCAL_GLOBAL, "num_kv_shared_layers": 2},
    "glm4_moe_lite": _MLA,
    "glm_moe_dsa": _MLA,
    "gpt2": {"scale_attn_by_inverse_layer_idx": True},
    "gpt_neo": {"attention_types": [[["global", "local"], 3]]},
    "granitemoehybrid": {**_MAMBA2, "layer_types": Cycle(("mamba", "attention", "mamba"))},
    "jamba": {"attn_layer_period": 3, "attn_layer_offset": 1, "num_experts": 4},
    "kimi_linear": _MLA,
    "lfm2_moe": {"layer_types": Cycle(("conv", "full_attention", "conv")), "num_dense_layers": 1},
    "longcat_flash": _MLA,
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2},
    "glm4v_text": _MROPE,
    "glm4v_moe_text": _MROPE,
    "minicpm3": _MLA,
    "mistral_large4_text": _MLA,
    "nemotron_h": {
        "layers_block_type": Cycle(("linear_attention", "moe", "full_attention", "mlp")),
        "mamba_num_heads": 8,
    },
    "olmo3": {"layer_types": _LOCAL_GLOBAL},
    "qwen2_5_vl_text": _MROPE,
    "qwen2_vl_text": _MROPE,
    "qwen2_moe": {"decoder_sparse_step": 2, "mlp_only_layers": [3]},
    "qwen3_moe": {"decoder_sparse_step": 2},
    "qwen4_exp_text": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "reformer": {"attn_layers": Cycle(("local", "lsh")), "axial_pos_embds": False},
    "sarvam_mla": _MLA,
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    "xmod": {"default_language": "en_XX"},
    "youtu": _MLA,
    "zamba": {
        "use_mamba_kernels": False,
        "layers_block_type": _HYBRID,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
    },
    "zamba2": {
        "layers_block_type": _HYBRID,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
        "n_mamba_heads": 8,
        "mamba_headdim": 8,
    },
}
"""What a type needs beside small sizes: head counts that must agree, and layers of every kind."""


def causal_types() -> list[str]:
    """Every model type that transformers maps to a causal language model, sorted."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(model_type: str, n_layers: int) -> PretrainedConfig:
    """A small config of one type, with ``n_layers`` decoder layers where the type allows."""
    defaults = CONFIG_MAPPING[model_type]()
    fields = _small_fields(defaults, n_layers) | _row(model_type, n_layers)
    make: Callable[..., PretrainedConfig] = CONFIG_MAPPING[model_type]
    return make(**fields)


def tiny_model(model_type: str, n_layers: int, *, seed: int = 0) -> PreTrainedModel:
    """A random float32 model of one type, in evaluation mode, the same for the same seed.

    The global random state of torch is put back.

    >>> model = tiny_model("llama", 3)
    >>> model.config.num_hidden_layers
    3

    Args:
        model_type: As in `causal_types`.
        n_layers: Decoder layers, where the type allows.
        seed: Of the weights.
    """
    config = tiny_config(model_type, n_layers)
    # Some types load only through the class of their vision-language wrapper.
    wrapper = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.model_type)
    maker = AutoModelForImageTextToText if wrapper else AutoModelForCausalLM
    # The caller's random numbers go on as if nothing had been drawn.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return maker.from_config(config, dtype=torch.float32).eval()


def _small_fields(config: PretrainedConfig, n_layers: int) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            fields[name] = _small_fields(value, n_layers) | _row(value.model_type, n_layers)
        elif name == "initializer_range":
            fields[name] = INITIALIZER_RANGE
        elif name == "is_decoder":
            fields[name] = True
        elif name in ONCE_SMALL and value is None:
            fields[name] = SMALL[name]  # configs that leave it to their users
        elif isinstance(value, int) and not isinstance(value, bool):
            fields |= _small_number(name, value, n_layers)
    return fields


def _small_number(name: str, value: int, n_layers: int) -> dict[str, object]:
    if name in COUNT_FIELDS or name in ("encoder_layers", "num_encoder_layers"):
        return {name: n_layers}
    if name in SMALL and value > SMALL[name]:
        return {name: SMALL[name]}
    if name.endswith("token_id") and value >= VOCABULARY:
        return {name: 2}
    return {}


def _row(model_type: str, n_layers: int) -> dict[str, object]:
    row = _BY_TYPE.get(model_type, {})
    return {
        name: value.of(n_layers) if isinstance(value, Cycle) else value
        for name, value in row.items()
    }
