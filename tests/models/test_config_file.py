"""config.json is edited as a file: every place that counts or lists layers, and nothing else."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText

from coterie.errors import ModelError
from coterie.models.cutting.config import cut_config
from coterie.models.cutting.config_file import edited, read_as_file
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.testing.tiny import tiny_config, tiny_model

KEPT = (0, 2, 3, 5)
LETTERS = {"linear_attention": "M", "moe": "E", "full_attention": "*", "mlp": "-"}


def as_saved(model_type, tmp_path):
    tiny_config(model_type, 6).save_pretrained(tmp_path / "saved")
    return json.loads((tmp_path / "saved" / "config.json").read_text())


def cut_file(raw, tmp_path, kept=KEPT, n_players=6):
    (tmp_path / "raw").mkdir(exist_ok=True)
    (tmp_path / "raw" / "config.json").write_text(json.dumps(raw))
    config = AutoConfig.from_pretrained(tmp_path / "raw")
    after = cut_config(config, kept, n_players)
    return edited(raw, config, after, kept, n_players), config, after


def flat(raw):
    """As on the Hub: what transformers nests stands at the top of the file."""
    text = {name: value for name, value in raw["text_config"].items() if name != "model_type"}
    return {**text, **{name: value for name, value in raw.items() if name != "text_config"}}


def flat_beside(raw):
    text = {name: value for name, value in raw["text_config"].items() if name != "model_type"}
    return {**text, **raw}


def paths(value, at=()):
    if isinstance(value, dict):
        return {
            p: leaf for name, part in value.items() for p, leaf in paths(part, (*at, name)).items()
        }
    return {at: value}


@pytest.mark.parametrize(
    ("model_type", "fields", "expected"),
    [
        ("llama", {"n_layers": 6, "num_layers": 6}, {"n_layers": 4, "num_layers": 4}),
        ("llama", {"num_transformer_layers": 6}, {"num_transformer_layers": 4}),
        ("llama", {"n_layers": 24}, {"n_layers": 24}),  # of something else
        ("llama", {"hybrid_override_pattern": "M-M*-E"}, {"hybrid_override_pattern": "MM*E"}),
        ("llama", {"block_pattern": "a,b,c,d,e,f"}, {"block_pattern": "a,c,d,f"}),
        ("llama", {"layer_types_old": list("abcdef")}, {"layer_types_old": list("acdf")}),
        ("llama", {"attn_layers": [1, 3, 5]}, {"attn_layers": [2, 3]}),
        ("llama", {"attention_layer_ids": [0, 1, 2]}, {"attention_layer_ids": [0, 1]}),
        ("llama", {"ssm_cfg": {"attn_layer_idx": [2, 4]}}, {"ssm_cfg": {"attn_layer_idx": [1]}}),
        (
            "llama",
            {"linear_attn_config": {"full_attn_layers": [3, 6], "kda_layers": [1, 2, 4, 5]}},
            {"linear_attn_config": {"full_attn_layers": [2, 4], "kda_layers": [1, 3]}},
        ),
        (
            "llama",
            {"layer_overrides": {"1": {"a": 1}, "3": {"a": 2}}},
            {"layer_overrides": {"2": {"a": 2}}},
        ),
        # what only looks like it
        ("llama", {"mtp_hybrid_override_pattern": "*E*E*E"}, None),
        ("llama", {"model_name": "sixsix", "eos_token_id": [1, 2, 3, 4, 5, 6]}, None),
        ("llama", {"vision_feature_layers": [1, 2]}, None),
        ("llama", {"num_nextn_predict_layers": 1}, None),
        ("llama", {"draft_config": {"num_hidden_layers": 6, "model_type": "llama"}}, None),
        ("llama", {"id2label": {"0": "a", "1": "b"}}, None),
    ],
)
def test_a_field_of_the_file_follows_whatever_reads_it(model_type, fields, expected, tmp_path):
    raw = as_saved(model_type, tmp_path) | fields
    new = cut_file(raw, tmp_path)[0]
    assert {name: new[name] for name in fields} == (fields if expected is None else expected)
    changed = {p for p, leaf in paths(new).items() if paths(raw).get(p, "none") != leaf}
    assert {p[0] for p in changed} <= {*fields, "num_hidden_layers"}
    assert [name for name in new if name in raw] == list(raw)  # in the order of the file


def nemotron(raw):
    raw["hybrid_override_pattern"] = "".join(LETTERS[kind] for kind in raw.pop("layers_block_type"))
    return raw | {"num_hidden_layers": 6}


def without_type(raw):
    raw["text_config"].pop("model_type")
    return raw


@pytest.mark.parametrize(
    ("model_type", "form"),
    [
        ("nemotron_h", nemotron),
        ("qwen2_vl", flat),
        ("qwen2_5_vl", flat),
        ("fuyu", flat),
        ("qwen2_vl", flat_beside),
        ("qwen2_5_vl", flat_beside),
        ("gemma3", flat_beside),
        ("qwen2_5_vl", without_type),
        ("gemma3", dict),
        ("gpt2", lambda raw: raw | {"num_hidden_layers": raw.pop("n_layer")}),
        ("kimi_linear", dict),
    ],
)
def test_a_file_as_others_write_it_reads_as_the_cut_model(model_type, form, tmp_path):
    raw = form(as_saved(model_type, tmp_path))
    new, config, after = cut_file(raw, tmp_path)
    read = read_as_file(new, config)
    assert read.get_text_config().to_dict() == after.get_text_config().to_dict()
    counts = {
        p: leaf for p, leaf in paths(new).items() if p[-1] in ("num_hidden_layers", "n_layer")
    }
    old = paths(raw)
    for p, count in counts.items():
        tower = any(part.startswith(("vision", "audio")) for part in p)
        assert count == (old[p] if tower else 4)
    lists = [
        leaf for p, leaf in paths(new).items() if p[-1] in ("layer_types", "layers_block_type")
    ]
    assert all(len(kinds) == 4 for kinds in lists)
    assert len(new.get("hybrid_override_pattern", "MMMM")) == 4


@pytest.mark.parametrize("model_type", ["nemotron_h", "gemma3", "qwen2_moe", "deepseek_v3"])
def test_two_cuts_are_one(model_type, tmp_path):
    raw = as_saved(model_type, tmp_path)
    twice = cut_file(cut_file(raw, tmp_path)[0], tmp_path, (0, 2, 3), 4)[0]
    assert twice == cut_file(raw, tmp_path, (0, 3, 5))[0]


def test_a_tower_with_as_many_layers_stays(tmp_path):
    raw = as_saved("qwen2_5_vl", tmp_path)
    raw["vision_config"] |= {"depth": 6, "num_hidden_layers": 6, "layer_kinds": list("abcdef")}
    assert cut_file(raw, tmp_path)[0]["vision_config"] == raw["vision_config"]


@pytest.mark.parametrize("model_type", ["fuyu", "qwen2_vl"])
def test_a_flat_file_is_cut_written_and_reloaded(model_type, tmp_path):
    config = tiny_config(model_type, 4)
    if model_type == "qwen2_vl":
        config.vision_config.embed_dim, config.vision_config.depth = 32, 2
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path / "whole")
    file = tmp_path / "whole" / "config.json"
    file.write_text(json.dumps(flat(json.loads(file.read_text()))))
    write_cut(resolve(str(tmp_path / "whole")), [0, 3], tmp_path / "cut")
    assert "text_config" not in json.loads((tmp_path / "cut" / "config.json").read_text())
    model = load_model(resolve(str(tmp_path / "cut")), dtype=None, device="cpu")
    assert model.config.get_text_config().num_hidden_layers == 2


def test_layers_that_no_config_counts_are_not_carried(folder, tmp_path):
    whole = tmp_path / "whole"
    tiny_model("llama", 6).save_pretrained(whole)
    raw = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(raw | {"num_hidden_layers": 4}))
    write_cut(resolve(str(whole)), [0, 3], tmp_path / "cut")
    names = load_file(tmp_path / "cut" / "model.safetensors")
    assert {name.split(".")[2] for name in names if ".layers." in name} == {"0", "1"}


def cut_one(folder):
    write_cut(resolve(str(folder)), [0], folder / "cut")


def load(folder):
    load_model(resolve(str(folder)), dtype=torch.float32, device="cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("num_hidden_layers", 10**9), ("num_experts", 10**9), ("hidden_size", 10**6)],
        *[("vocab_size", 10**12), ("intermediate_size", 10**9), ("num_attention_heads", 0)],
        *[("hidden_size", -4), ("num_hidden_layers", 5000), ("vision", {"depth": 10**9})],
    ],
)
def test_sizes_that_are_not_those_of_the_weights_are_refused_before_memory_is_asked(
    name, value, tmp_path
):
    tiny_model("llama", 2).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {name: value}))
    began = time.monotonic()
    for use in (cut_one, load):
        with pytest.raises(ModelError) as refused:
            use(tmp_path)
        assert "\n" not in str(refused.value)
    assert time.monotonic() - began < 20
