"""Every field that speaks of single layers follows the cut."""

import pytest
from transformers import (
    DeepseekV3Config,
    Exaone4Config,
    Gemma3Config,
    Glm4Config,
    GPTNeoConfig,
    LlamaConfig,
    MllamaConfig,
    Qwen2MoeConfig,
    RecurrentGemmaConfig,
)

from coterie.errors import CutError
from coterie.models.cutting.config import config_changes, cut_config, cut_fields
from coterie.models.cutting.quantization import renumber_quantization
from coterie.models.cutting.rope import with_plain_rope
from coterie.testing.tiny import tiny_config

KEPT = (0, 2, 3, 5)


def cut(**fields):
    return cut_fields(fields, KEPT, 6)


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"num_hidden_layers": 6, "hidden_size": 7}, {"num_hidden_layers": 4}),
        ({"layer_types": list("abcdef")}, {"layer_types": list("acdf")}),
        ({"moe_layers": [1, 2, 5]}, {"moe_layers": [1, 3]}),
        ({"mlp_only_layers": list(range(6))}, {"mlp_only_layers": [0, 1, 2, 3]}),
        ({"first_k_dense_replace": 3}, {"first_k_dense_replace": 2}),
        ({"num_kv_shared_layers": 4}, {"num_kv_shared_layers": 3}),
        ({"moe_layer_end_index": 5}, {"moe_layer_end_index": 3}),
        ({"eos_token_id": [1, 2, 3, 4, 5, 6]}, {}),
        ({"rope_scaling": [1.0] * 6, "tie_word_embeddings": True}, {}),
        (
            {"decoder_sparse_step": 2, "mlp_only_layers": [3]},  # experts in layers 1 and 5
            {"decoder_sparse_step": 1, "mlp_only_layers": [0, 1, 2]},
        ),
    ],
)
def test_a_field_follows_the_cut(fields, changed):
    assert cut(**fields) == changed


def test_the_config_given_is_not_changed():
    config = LlamaConfig(num_hidden_layers=6)
    assert cut_config(config, KEPT).num_hidden_layers == 4
    assert config.num_hidden_layers == 6


def test_a_wrapper_changes_in_its_text_part_alone():
    config = Gemma3Config(text_config={"num_hidden_layers": 6}, vision_config={})
    changes = config_changes(config, cut_config(config, KEPT))
    assert list(changes) == ["text_config"]
    assert changes["text_config"]["num_hidden_layers"] == 4
    assert len(changes["text_config"]["layer_types"]) == 4


def test_cross_attention_layers_are_renumbered():
    config = MllamaConfig(text_config={"num_hidden_layers": 6, "cross_attention_layers": [1, 3]})
    new = cut_config(config, KEPT).get_text_config()
    assert (new.num_hidden_layers, new.cross_attention_layers) == (4, [2])


def test_a_short_pattern_is_spelt_out():
    config = RecurrentGemmaConfig(num_hidden_layers=6)
    assert cut_config(config, KEPT).layers_block_type == [
        config.layers_block_type[player] for player in KEPT
    ]
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    config = Exaone4Config(num_hidden_layers=6, layer_types=kinds, sliding_window_pattern="LLG")
    assert cut_config(config, KEPT).sliding_window_pattern == "".join(
        "G" if config.layer_types[player] == "full_attention" else "L" for player in KEPT
    )
    config = GPTNeoConfig(num_layers=6, attention_types=[[["global", "local"], 3]])
    assert list(cut_config(config, KEPT).attention_layers) == ["global", "global", "local", "local"]


def test_rotary_fields_stand_at_the_top_too():
    told = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 5e4, "partial_rotary_factor": 0.25}
    fields = {"model_type": "glm4", "rope_parameters": told}
    plain = with_plain_rope(fields, Glm4Config())
    assert (plain["rope_theta"], plain["partial_rotary_factor"]) == (5e4, 0.25)
    assert plain["rope_scaling"] == {"rope_type": "yarn", "factor": 2.0}
    assert plain["rope_parameters"] == told


def test_overrides_of_single_layers_are_renumbered():
    config = tiny_config("gemma4_text", 6)  # full attention, with wider heads, in 1, 3 and 5
    new = cut_config(config, (0, 2, 3, 5))
    assert set(new.to_dict()["per_layer_config"]) == {"2", "3"}


def test_dense_layers_before_the_experts_are_counted_again():
    config = DeepseekV3Config(num_hidden_layers=6, first_k_dense_replace=3)
    assert cut_config(config, (0, 3, 4, 5)).first_k_dense_replace == 1
    config = Qwen2MoeConfig(num_hidden_layers=6, decoder_sparse_step=2)
    assert cut_config(config, KEPT).mlp_only_layers == [0, 1]


@pytest.mark.parametrize(
    ("kept", "complaint"),
    [
        ([], "no layer of 6 would be left"),
        ([0, 6], "there is no layer 6: the model has 6, numbered 0 to 5"),
        ([-1, 2], "there is no layer -1"),
        ([1, 1, 2], "layer 1 is named twice"),
    ],
)
def test_what_cannot_be_kept_is_refused(kept, complaint):
    with pytest.raises(CutError, match=complaint):
        cut_config(LlamaConfig(num_hidden_layers=6), kept)


def renumber(layer):
    return KEPT.index(layer) if layer in KEPT else None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            ["lm_head", "model.layers.3.mlp", "model.layers.4.mlp"],
            ["lm_head", "model.layers.2.mlp"],
        ),
        ({"ignore": [r"re:model\.layers\.5\.mlp.*"]}, {"ignore": [r"re:model\.layers\.3\.mlp.*"]}),
        ({"dynamic": {"layers.1.x": 4, "layers.2.x": 8}}, {"dynamic": {"layers.1.x": 8}}),
        ({"quant_method": "gptq", "bits": 4, "none": None}, None),
        ({"targets": ["Linear", "re:.*self_attn.*"]}, None),
    ],
)
def test_layer_numbers_of_a_quantization_follow(before, after):
    assert renumber_quantization(before, "layers", renumber) == (before if after is None else after)


@pytest.mark.parametrize("pattern", [r"re:.*layers\.(0|1)\.mlp", "layers.[0-3].mlp"])
def test_a_pattern_of_several_layers_is_refused(pattern):
    from coterie.errors import ModelError

    with pytest.raises(ModelError, match="several layers in one pattern"):
        renumber_quantization({"ignore": [pattern]}, "layers", renumber)
