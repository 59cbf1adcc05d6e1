"""The stack is found where it is, and what cannot be cut says why."""

import pytest
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from coterie.errors import ModelError
from coterie.models.cutting.structure import meta_model
from coterie.models.families.registry import Family, register_family
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_config

PATHS = {
    "llama": "model.layers",
    "gpt2": "transformer.h",
    "opt": "model.decoder.layers",
    "mamba": "backbone.layers",
    "gpt_neox": "gpt_neox.layers",
    "mpt": "transformer.blocks",
    "rwkv": "rwkv.blocks",
    "xlstm": "backbone.blocks",
    "bart": "model.decoder.layers",
    "mixtral": "model.layers",
    "gemma3": "model.language_model.layers",
    "longcat_flash": "model.layers",
}


@pytest.mark.parametrize(("model_type", "path"), PATHS.items())
def test_the_stack_is_where_the_family_keeps_it(model_type, path):
    stack = find_stack(meta_model(tiny_config(model_type, 6)))
    assert (stack.path, stack.n_players) == (path, 6)


LOCKED = {
    "llama": [],
    "zamba2": [1, 4],  # the layers that share attention blocks
    "rwkv": [0],
    "gpt_neox_japanese": [5],
    "modernbert-decoder": [0],
    "bamba": [1],  # the first of two attention layers
    "gemma3n_text": [2, 3],  # the last that make keys and values, one of each kind
    "gemma4_text": [2, 3, 5],
    "mllama": [3],  # reads images only
    "qwen3_vl": [0, 1, 2],  # image features come in after these
    "jamba": [0, 1, 2, 3, 4, 5],
}


@pytest.mark.parametrize(("model_type", "locked"), LOCKED.items())
def test_what_must_stay_is_locked_with_a_reason(model_type, locked):
    stack = find_stack(meta_model(tiny_config(model_type, 6)))
    assert list(stack.locks) == locked
    assert all(stack.locks.values())
    assert set(stack.unlocked) == set(range(6)) - set(locked)


class Towers(PreTrainedModel):
    """An architecture nobody has heard of."""

    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.tower = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
        self.post_init()


def unheard_of() -> PreTrainedModel:
    config = PretrainedConfig()
    config.model_type, config.num_hidden_layers = "unheard_of", 4
    return Towers(config)


def test_an_unknown_architecture_says_what_was_looked_for_and_how_to_register_it():
    with pytest.raises(ModelError) as raised:
        find_stack(unheard_of())
    message = str(raised.value)
    assert "'num_hidden_layers': 4" in message
    assert "tower (3)" in message
    assert "register_family('unheard_of', Family(stack=" in message


def test_a_registered_family_is_found(monkeypatch):
    from coterie.models.families import registry as families

    monkeypatch.setattr(families, "_registered", {})
    register_family("unheard_of", Family(stack="tower", lock_last="it ends the tower"))
    stack = find_stack(unheard_of())
    assert (stack.path, stack.locks) == ("tower", {2: "it ends the tower"})
    register_family("unheard_of", Family(stack="nowhere"))
    with pytest.raises(ModelError, match="no module 'nowhere'"):
        find_stack(unheard_of())


def test_parts_that_are_not_the_decoder_are_left_alone():
    model = meta_model(tiny_config("gemma3", 6))
    assert "vision" not in find_stack(model).path
    assert next(model.parameters()).device == torch.device("meta")
