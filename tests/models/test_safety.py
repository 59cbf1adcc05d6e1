"""The safety net holds, and every one of its meshes can tear."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from coterie.errors import VerificationError
from coterie.models.cutting import structure
from coterie.models.cutting.config import cut_config
from coterie.models.cutting.in_memory import cut_model
from coterie.models.cutting.structure import check_structure, meta_model, structural_differences
from coterie.models.cutting.verify import check_filled, expect, verify
from coterie.models.cutting.write import write_cut
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_config

KEPT = [0, 2, 3, 5]
COALITION = [player in KEPT for player in range(6)]


@pytest.fixture
def cut(source, tmp_path):
    write_cut(source, KEPT, tmp_path / "cut")
    return tmp_path / "cut"


def test_what_was_written_is_what_was_measured(llama, cut, tokens):
    found = verify(expect(llama, find_stack(llama), COALITION, tokens), cut)
    assert found.max_logit_difference == 0
    assert found.nll_difference == 0
    assert found.generate_ok is True


def test_another_coalition_is_found_out(llama, cut, tokens):
    other = [True, True, True, False, False, True]
    with pytest.raises(VerificationError, match="nats per token away from the masked model"):
        verify(expect(llama, find_stack(llama), other, tokens), cut)


def test_one_changed_weight_is_found_out(llama, cut, tokens):
    file = cut / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1.01
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(VerificationError, match="nats per token away"):
        verify(expect(llama, find_stack(llama), COALITION, tokens), cut)


def test_a_missing_tensor_is_found_out(llama, cut, tokens):
    file = cut / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(VerificationError, match=r"missing keys model\.layers\.1\.mlp"):
        verify(expect(llama, find_stack(llama), COALITION, tokens), cut)


def test_a_missing_tensor_is_found_without_memory(source, cut):
    check_filled(cut, source)
    file = cut / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(VerificationError, match=r"1\.mlp\.up_proj\.weight is missing"):
        check_filled(cut, source)


def test_layers_left_over_are_found_out(llama, source, tokens, tmp_path):
    whole = shutil.copytree(source.folder, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(VerificationError, match="nats per token away"):
        verify(expect(llama, find_stack(llama), COALITION, tokens), whole)


def test_a_cache_under_wrong_numbers_is_found_out(llama, cut, tokens, monkeypatch):
    from coterie.models.cutting import verify as safety

    reload = safety._reload

    def misnumbered(*args):
        model = reload(*args)
        for layer in model.model.layers:  # what a cut without renumbering leaves behind
            layer.self_attn.layer_idx = 0
        return model

    expected = expect(llama, find_stack(llama), COALITION, tokens)
    monkeypatch.setattr(safety, "_reload", misnumbered)
    with pytest.raises(VerificationError, match="with its cache than without"):
        verify(expected, cut)


def test_a_model_whose_own_cache_differs_is_not_asked(llama, cut, tokens, monkeypatch):
    from coterie.models.cutting import verify as safety

    monkeypatch.setattr(safety, "_differences", lambda _, tokens: [0] * len(tokens))
    assert verify(expect(llama, find_stack(llama), COALITION, tokens), cut).generate_ok is None


def test_structure_names_layer_and_field(monkeypatch):
    config = tiny_config("gemma2", 6)  # local and global attention by turns
    check_structure(config, KEPT)
    monkeypatch.setattr(
        structure,
        "cut_config",
        lambda config, kept, n_players: type(config)(
            **config.to_dict() | {"num_hidden_layers": 4, "layer_types": config.layer_types[:4]}
        ),
    )
    with pytest.raises(VerificationError, match=r"layer 2: self_attn\.\S+ was .*, would be"):
        check_structure(config, KEPT)


def test_structure_sees_classes_shapes_and_numbers_of_layers():
    whole = meta_model(tiny_config("mixtral", 6))
    config = cut_config(whole.config, KEPT)
    assert structural_differences(whole, meta_model(config), KEPT) == []
    config.num_local_experts = 3
    fields = {found.field for found in structural_differences(whole, meta_model(config), KEPT)}
    assert any("(shape)" in field for field in fields)
    config.num_hidden_layers = 3
    assert structural_differences(whole, meta_model(config), KEPT)[0].field == "number of layers"


def test_a_cut_in_memory_shares_its_weights_and_generates(llama, tokens):
    model = cut_model(llama, KEPT)
    old, new = llama.model.layers, model.model.layers
    assert [layer.self_attn.layer_idx for layer in new] == [0, 1, 2, 3]
    assert [layer.self_attn.layer_idx for layer in old] == list(range(6))
    for place, player in enumerate(KEPT):
        assert new[place].mlp.up_proj.weight is old[player].mlp.up_proj.weight
    assert (model.config.num_hidden_layers, llama.config.num_hidden_layers) == (4, 6)
    with torch.no_grad():
        expected = expect(llama, find_stack(llama), COALITION, tokens).logits
        torch.testing.assert_close(model(tokens).logits, expected, rtol=0, atol=0)
    assert model.generate(tokens, max_new_tokens=3, pad_token_id=0).shape == (2, 19)


def test_a_model_that_cannot_generate_is_not_asked_to(llama, cut, tokens, monkeypatch):
    from coterie.models.cutting import verify as safety

    def broken(*_):
        raise ValueError("no such cache")

    monkeypatch.setattr(safety, "_first_difference", broken)
    assert verify(expect(llama, find_stack(llama), COALITION, tokens), cut).generate_ok is None
