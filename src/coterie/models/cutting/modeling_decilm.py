"""A Llama some of whose layers lack attention or feed-forward; written beside such a checkpoint.

This file stands alone: transformers runs it from the checkpoint's folder (trust_remote_code=True).
"""

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


class BlockFields(dict):
    """An object of config.json whose entries are attributes too: vLLM reads them so."""

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def as_blocks(value: object) -> object:
    """The same plain data, every object in it a `BlockFields`."""
    if isinstance(value, dict):
        return BlockFields({name: as_blocks(inner) for name, inner in value.items()})
    return [as_blocks(inner) for inner in value] if isinstance(value, list) else value


class DeciLMConfig(LlamaConfig):
    """A Llama config with `block_configs`: for each layer, whether either block is a no-op."""

    model_type = "nemotron-nas"

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, as_blocks(value) if name == "block_configs" else value)


class NoAttention(nn.Module):
    """Adds nothing, and keeps nothing in the cache."""

    def forward(self, hidden_states: torch.Tensor, **_: object) -> tuple[torch.Tensor, None]:
        return torch.zeros_like(hidden_states), None


class NoFeedForward(nn.Module):
    """Adds nothing."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


class DeciLMForCausalLM(LlamaForCausalLM):
    """Llama, but for the blocks that its config calls no-ops."""

    config_class = DeciLMConfig

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        place = 0  # in the cache, which counts positions on its first entry
        for layer, block in zip(self.model.layers, config.block_configs, strict=True):
            if block["attention"]["no_op"]:
                layer.self_attn, layer.input_layernorm = NoAttention(), nn.Identity()
            else:
                layer.self_attn.layer_idx = place
                place += 1
            if block["ffn"]["no_op"]:
                layer.mlp, layer.post_attention_layernorm = NoFeedForward(), nn.Identity()
