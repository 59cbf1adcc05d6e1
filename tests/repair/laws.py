"""Tiny models made to behave, and texts that they themselves would write."""

import numpy as np
import torch

from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_model

N_LAYERS = 5


def texts(model, n: int, length: int = 24, seed: int = 0) -> np.ndarray:
    """Texts that the model itself would write: no other model predicts them better."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 120, (n, 1), generator=generator)
    with torch.no_grad():
        while ids.shape[1] < length:
            logits = 4 * model(input_ids=ids, use_cache=False).logits[:, -1, :120].float()
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            ids = torch.cat([ids, drawn], dim=1)
    return ids.numpy()


def made(model_type: str, n_layers: int = N_LAYERS, seed: int = 0):
    """A tiny model of some type and its layers."""
    model = tiny_model(model_type, n_layers=n_layers, seed=seed)
    return model, find_stack(model)


def with_linear_gap(at: int = 2):
    """A Llama in which layer ``at`` adds to the state a linear function of what enters the last map
    of the layer before it, which itself adds nothing with that map.
    """
    model, stack = made("llama")
    before, gap = stack.layers[at - 1], stack.layers[at]
    with torch.no_grad():
        gap.mlp.gate_proj.weight.copy_(before.mlp.gate_proj.weight)
        gap.mlp.up_proj.weight.copy_(before.mlp.up_proj.weight)
        gap.post_attention_layernorm.weight.copy_(before.post_attention_layernorm.weight)
        gap.self_attn.o_proj.weight.zero_()
        before.mlp.down_proj.weight.zero_()
    return model, stack
