"""Attention and feed-forward blocks as players: a skipped one adds nothing."""

import json
import pickle

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from coterie.engine.model_game import ModelGame
from coterie.errors import CutError, ModelError
from coterie.game.coalitions import observe_all
from coterie.models.cutting.blocks import write_block_cut
from coterie.models.cutting.verify import expect, verify
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.loaded.blocks import find_players, gone_players
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_model

RESIDUAL = ("llama", "qwen3", "gemma2", "mixtral", "gpt2", "phi3", "qwen3_next", "gptj")


def logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits


@pytest.mark.parametrize("model_type", RESIDUAL)
def test_a_layer_without_both_blocks_is_a_layer_skipped(model_type, tokens):
    model = tiny_model(model_type, 4)
    stack = find_players(model, "sublayer")
    assert stack.n_players == 8
    with routed(model, stack, [True, True, False, False, True, True, True, False]):
        blocks = logits(model, tokens)
    with routed(model, stack, [True] * 6 + [True, False]):
        one_less = logits(model, tokens)
    with (
        routed(model, find_stack(model), [True, False, True, True]),
        routed(model, stack, [True] * 7 + [False]),
    ):
        layer = logits(model, tokens)
    torch.testing.assert_close(blocks, layer, rtol=0, atol=1e-6)
    assert (blocks - one_less).abs().max() > 1e-3


def test_a_skipped_block_is_a_block_whose_output_weights_are_zero(tokens):
    model = tiny_model("llama", 4)
    with routed(model, find_players(model, "attention"), [True, True, False, True]):
        skipped = logits(model, tokens)
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.zero_()
    torch.testing.assert_close(skipped, logits(model, tokens), rtol=0, atol=1e-6)


def test_the_engine_plays_blocks(tokens):
    model = tiny_model("llama", 4)
    stack = find_players(model, "mlp")
    game = ModelGame(model, tokens, stack=stack, kl=False)
    coalition = torch.tensor([[True, False, True, False]]).numpy()
    with routed(model, stack, coalition[0]):
        expected = torch.nn.functional.cross_entropy(
            logits(model, tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
        )
    assert observe_all(game, coalition).nll.mean() == pytest.approx(expected.item(), abs=1e-5)


def test_layers_that_do_more_than_add_are_refused():
    with pytest.raises(ModelError, match=r"do more than add|not one of each"):
        find_players(tiny_model("bert", 4), "sublayer")  # norms come after the sum
    with pytest.raises(ModelError, match="0 attention and 0 feed-forward"):
        find_players(tiny_model("mamba2", 4), "attention")
    with pytest.raises(ModelError, match="'heads' are unknown: there are layer, attention"):
        find_players(tiny_model("llama", 2), "heads")


def test_a_block_cut_is_what_was_masked(folder, llama, tokens, tmp_path):
    attention, mlp = {1, 4}, {0, 4, 5}  # layer 4 loses both
    done = write_block_cut(resolve(str(folder)), attention, mlp, tmp_path / "cut")
    assert done.kept == (0, 1, 2, 3, 5)
    assert done.runtimes == ("transformers with trust_remote_code=True",)  # width 64, not 256
    coalition = [player // 2 not in (mlp if player % 2 else attention) for player in range(2 * 6)]
    expected = expect(llama, find_players(llama, "sublayer"), coalition, tokens)
    found = verify(expected, tmp_path / "cut", trust_remote_code=True)
    assert found.max_logit_difference < 1e-6
    assert found.generate_ok is True


def test_the_format_of_others_is_met(tmp_path):
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=32,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "whole")
    done = write_block_cut(resolve(str(tmp_path / "whole")), {1}, set(), tmp_path / "cut")
    assert done.runtimes[1:] == ("vLLM", "llama.cpp")
    fields = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert (fields["model_type"], fields["architectures"]) == (
        "nemotron-nas",
        ["DeciLMForCausalLM"],
    )
    first, second = fields["block_configs"]
    assert first["attention"]["n_heads_in_group"] == 2
    assert int(2 * first["ffn"]["ffn_mult"] * 64 / 3) == 256  # how the others read it
    assert second["attention"]["no_op"] and not second["ffn"]["no_op"]


@pytest.mark.parametrize(
    ("attention", "mlp", "complaint"),
    [({6}, set(), "no layer 6"), (set(range(6)), {0}, "no attention block would be left")],
)
def test_a_block_cut_that_cannot_be_made(folder, attention, mlp, complaint, tmp_path):
    with pytest.raises(CutError, match=complaint):
        write_block_cut(resolve(str(folder)), attention, mlp, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_blocks_of_other_families_cannot_be_saved(tmp_path):
    tiny_model("gemma2", 2).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a gemma2: single blocks can be saved of llama"):
        write_block_cut(resolve(str(tmp_path)), {0}, set(), tmp_path / "cut")


def test_a_block_cut_is_cut_again(folder, llama, tokens, tmp_path):
    write_block_cut(resolve(str(folder)), {1}, {2, 5}, tmp_path / "first")
    # Its code is the package's own, byte by byte: nobody has to allow it.
    first = resolve(str(tmp_path / "first"))
    assert first.trust_remote_code
    assert gone_players(first.raw_config(), "sublayer", 6) == [2, 5, 11]
    write_block_cut(first, {4}, {1}, tmp_path / "second")  # layer 1 loses what was left of it
    write_cut(resolve(str(tmp_path / "second")), (0, 1, 2, 4), tmp_path / "third")
    gone = {2, 3, 5, 8, 11}
    stack = find_players(llama, "sublayer")
    expected = expect(llama, stack, [player not in gone for player in range(12)], tokens)
    found = verify(expected, tmp_path / "second", trust_remote_code=True)
    assert found.max_logit_difference < 1e-6 and found.generate_ok is True
    gone |= {8, 9}  # layer 4, the fourth of those that stayed
    expected = expect(llama, stack, [player not in gone for player in range(12)], tokens)
    found = verify(expected, tmp_path / "third", trust_remote_code=True)
    assert found.max_logit_difference < 1e-6 and found.generate_ok is True


def test_other_code_beside_a_block_cut_has_to_be_allowed(folder, tmp_path):
    write_block_cut(resolve(str(folder)), {1}, set(), tmp_path / "cut")
    code = tmp_path / "cut" / "modeling_decilm.py"
    code.write_text(code.read_text() + "\nprint('not ours')\n")
    with pytest.raises(ModelError, match="trust-remote-code"):
        resolve(str(tmp_path / "cut"))


def test_blocks_of_a_config_are_objects_as_vllm_reads_them(folder, tmp_path):
    write_block_cut(resolve(str(folder)), {1}, {2}, tmp_path / "cut")
    config = resolve(str(tmp_path / "cut")).config()
    assert config.block_configs[1].attention.no_op and not config.block_configs[1].ffn.no_op
    assert pickle.loads(pickle.dumps(config.block_configs))[2].ffn.no_op
    assert json.loads(config.to_json_string())["block_configs"][1]["attention"]["no_op"]
    # Older readers and MLX look for it at the top.
    assert json.loads((tmp_path / "cut" / "config.json").read_text())["rope_theta"] > 0
