"""Representatives of every kind of architecture, cut, written and reloaded, are what was masked."""

import subprocess
import sys
import textwrap

import pytest
import torch
from tests.slow import slow

from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import observe_all
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.loaded.stack import find_stack
from coterie.testing.family_check import check_family, expectation
from coterie.testing.small_sizes import VOCABULARY
from coterie.testing.tiny import causal_types, tiny_model

REPRESENTATIVES = (
    # dense, old and new
    *("gpt2", "gpt_neo", "gpt_neox_japanese", "opt", "bloom", "mpt", "falcon", "bart"),
    *("llama", "qwen2", "qwen3", "gemma2", "gemma3", "cohere2", "phi3", "olmo2"),
    *("minicpm3", "diffllama", "modernbert-decoder"),
    # shared keys and values, per-layer embeddings
    *("gemma3n_text", "gemma4_text"),
    # experts
    *("mixtral", "olmoe", "qwen2_moe", "deepseek_v3", "gpt_oss", "glm4_moe", "phimoe", "llama4"),
    # recurrent and hybrid
    *("mamba", "mamba2", "falcon_mamba", "rwkv", "recurrent_gemma", "bamba", "falcon_h1"),
    *("granitemoehybrid", "qwen3_next", "lfm2", "nemotron_h", "zamba2"),
)


def engine(model, stack, coalitions, tokens):
    """The engine's way of evaluating, and the mean negative log-likelihood of each coalition."""
    game = ModelGame(model, tokens, stack=stack, kl=False)
    return game.mode, observe_all(game, coalitions).nll.mean(axis=1)


ALIKE = {
    *(
        "bart",
        "cohere2",
        "deepseek_v3",
        "falcon",
        "gemma2",
        "glm4_moe",
        "gpt_neo",
        "granitemoehybrid",
    ),
    *("mamba", "minicpm3", "mixtral", "modernbert-decoder", "olmoe", "phi3", "phimoe", "zamba2"),
}
"""Families whose layers another one of the list has as well: `make test-all` cuts them."""


@pytest.mark.parametrize(
    "model_type",
    [slow(name) if name in ALIKE else name for name in REPRESENTATIVES if name in causal_types()],
)
def test_a_family_can_be_cut(model_type, tmp_path):
    found = check_family(model_type, tmp_path, engine=engine)
    assert found.failure == ""
    assert len(found.verifications) == 3
    assert found.mode


def test_no_family_passes_by_not_being_cut(tmp_path):
    assert "players are unlocked" in check_family("jamba", tmp_path / "a").failure
    assert check_family("no-such-type", tmp_path / "b").failure


def test_jamba_can_lose_whole_periods(tmp_path):
    tiny_model("jamba", 6).save_pretrained(tmp_path / "whole")  # attention at 1 and 4 of 6
    write_cut(resolve(str(tmp_path / "whole")), [0, 1, 2, 3], tmp_path / "cut")
    config = resolve(str(tmp_path / "cut")).config()
    assert config.layers_block_type == ["mamba", "attention", "mamba", "mamba"]


THIRDS = ("llama", "qwen3", "gemma3", "mixtral", "gpt_oss", "mamba2", "falcon_h1", "rwkv")

PLAIN = """
    import sys, torch
    from transformers import AutoModelForCausalLM
    folder, tokens = sys.argv[1], torch.load(sys.argv[1] + "/../tokens.pt")
    for name in sys.argv[2:]:
        model = AutoModelForCausalLM.from_pretrained(f"{folder}/../{name}", dtype="float32").eval()
        if name == "rwkv":
            model.config.rescale_every = 0
        with torch.no_grad():
            logits = model(input_ids=tokens, use_cache=False).logits
        torch.save(logits, f"{folder}/{name}.pt")
    assert not any(module.startswith("coterie") for module in sys.modules)
"""


def test_plain_transformers_loads_a_cut_by_a_third_where_coterie_is_not(tmp_path):
    tokens = torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))
    torch.save(tokens, tmp_path / "tokens.pt")
    expected = {}
    for name in THIRDS:
        model = tiny_model(name, 6)
        model.save_pretrained(tmp_path / f"whole-{name}")
        if name == "rwkv":
            model.config.rescale_every = 0  # else evaluation halves weights in place
        kept = [0, 2, 3, 5]
        write_cut(resolve(str(tmp_path / f"whole-{name}")), kept, tmp_path / name)
        expected[name] = expectation(model, find_stack(model), kept, tokens).logits
    (tmp_path / "logits").mkdir()
    script = [sys.executable, "-c", textwrap.dedent(PLAIN), str(tmp_path / "logits"), *THIRDS]
    subprocess.run(script, check=True, capture_output=True)
    for name in THIRDS:
        found = torch.load(tmp_path / "logits" / f"{name}.pt")
        torch.testing.assert_close(found.float(), expected[name], rtol=0, atol=1e-5)
