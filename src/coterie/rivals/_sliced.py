"""A Llama of smaller hidden width whose residual stream is turned between its blocks.

Each block has a width-by-width matrix on its skip connection, and norms divide by the original
width (SliceGPT, arXiv:2401.15024). This file stands alone: transformers runs it from the
checkpoint's folder (trust_remote_code=True).
"""

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer


class SlicedLlamaConfig(LlamaConfig):
    """A Llama config with `original_hidden_size`: the width before slicing."""

    model_type = "sliced-llama"


class RootMeanSquare(nn.Module):
    """A norm without weights, over the width that the state once had."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        wide = states.float()
        # Not the mean of what is left: the folded matrices expect the norm of the whole state.
        square = wide.pow(2).sum(dim=-1, keepdim=True) / self.width
        return (wide * torch.rsqrt(square + self.eps)).to(states.dtype)


class SlicedLlamaLayer(LlamaDecoderLayer):
    """A Llama layer with a matrix on either skip connection."""

    def __init__(self, config: LlamaConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        width, eps = config.original_hidden_size, config.rms_norm_eps
        # The scales of both norms were folded into the matrices that follow them.
        self.add_module("input_layernorm", RootMeanSquare(width, eps))
        self.add_module("post_attention_layernorm", RootMeanSquare(width, eps))
        self.attention_skip = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.mlp_skip = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden_states: torch.Tensor, **kwargs: object) -> torch.Tensor:
        normed = self.input_layernorm(hidden_states)
        added = self.self_attn(hidden_states=normed, **kwargs)[0]
        hidden_states = self.attention_skip(hidden_states) + added
        added = self.mlp(self.post_attention_layernorm(hidden_states))
        return self.mlp_skip(hidden_states) + added


class SlicedLlamaForCausalLM(LlamaForCausalLM):
    """Llama, but for its layers and its last norm."""

    config_class = SlicedLlamaConfig
    _no_split_modules = ["SlicedLlamaLayer"]  # noqa: RUF012

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        count = config.num_hidden_layers
        self.model.layers = nn.ModuleList([SlicedLlamaLayer(config, i) for i in range(count)])
        norm = RootMeanSquare(config.original_hidden_size, config.rms_norm_eps)
        self.model.add_module("norm", norm)
