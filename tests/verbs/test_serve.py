"""`--serve`: a search among cuts that a runtime reads rightly, and what is said of the others."""

import json

import pytest
import torch
from tests.tiny import save_llama, save_text, tokenizer
from transformers import Gemma2Config, Gemma2ForCausalLM

from coterie.cli import main
from coterie.verbs.search.served import ASKED

SMALL = ["--sequences", "4", "--length", "16", "--method", "greedy"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=6,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16,
        sliding_window=8, initializer_range=0.15, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(home / "gemma2")
    tokenizer().save_pretrained(home / "gemma2")
    save_llama(home / "llama", dtype=torch.float32)
    save_text(home / "text.txt")
    return home


def prune(home, model, out, *more):
    texts = ["--calibration", str(home / "text.txt"), "--store", str(home / "store.sqlite")]
    return main(["prune", str(home / model), *texts, *SMALL, *more, "--output", str(out)])


def record(folder):
    return json.loads((folder / "coterie.json").read_text())


def test_a_search_ends_at_a_cut_that_the_runtime_reads_rightly(home, tmp_path, capsys):
    asked = ["--remove", "2", "--serve", "llama.cpp"]
    assert prune(home, "gemma2", tmp_path / "out", *asked) == 0
    kept = record(tmp_path / "out")["cut"]["kept"]
    assert [layer % 2 for layer in kept] == [0, 1, 0, 1]
    assert record(tmp_path / "out")["request"]["serve"] == ["llama.cpp"]
    assert "loads rightly in" in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Runtimes" in card and "llama.cpp" in card.partition("## Runtimes")[2]


def test_a_plan_counts_what_serving_adds_to_a_search(home, tmp_path, capsys):
    plans = {}
    for name, more in {"free": [], "served": ["--serve", "llama.cpp"]}.items():
        asked = ["--remove", "2", "--dry-run", "--json", *more]
        assert prune(home, "gemma2", tmp_path / "out", *asked) == 0
        plans[name] = json.loads(capsys.readouterr().out)["plan"]
    assert plans["served"]["distinct"] - plans["free"]["distinct"] == ASKED
    added = plans["served"]["layer_tokens_asked"] - plans["free"]["layer_tokens_asked"]
    assert added == ASKED * 4 * 4 * 16  # layers kept, sequences, tokens
    times = {one["what"]: one["most"] for one in plans["served"]["times"]}
    assert times["searching among cuts for --serve"] > 0
    assert plans["served"]["most_seconds"] == pytest.approx(sum(times.values()))


def test_a_size_without_a_readable_cut_names_those_that_have_one(home, tmp_path, capsys):
    asked = ["--method", "paper", "--remove", "2", "--serve", "llama.cpp"]
    assert prune(home, "gemma2", tmp_path / "out", *asked) == 2
    assert "give --method guided" in capsys.readouterr().err


def test_a_named_cut_is_refused_with_the_nearest_one(home, tmp_path, capsys):
    cut = ["cut", str(home / "gemma2"), "--output", str(tmp_path / "out"), "--layers"]
    assert main([*cut, "2,4", "--serve", "llama.cpp"]) == 2
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) == 1
    nearest = told.partition("--layers ")[2].split()[0]
    assert main([*cut, nearest, "--serve", "llama.cpp"]) == 0
    assert {"runtime": "llama.cpp", "reads": "rightly"} in record(tmp_path / "out")["serving"]
    assert main([*cut, "2,4", "--overwrite"]) == 0  # unasked, it is written, and the record tells
    serving = {one["runtime"]: one for one in record(tmp_path / "out")["serving"]}
    assert serving["mlx"]["reads"] == "rightly" and "window" in serving["mlx"]["remark"]
    assert "coterie export" in serving["llama.cpp"]["remark"]


def test_blocks_that_a_runtime_needs_stay(home, tmp_path, capsys):
    asked = ["--remove", "1", "--serve", "llama.cpp", "--players"]
    assert prune(home, "llama", tmp_path / "out", *asked, "sublayer") == 2
    assert "multiple of 256" in capsys.readouterr().err
    assert prune(home, "llama", tmp_path / "out", "--remove", "1", "--serve", "onnx") == 2
    assert "--serve onnx is unknown" in capsys.readouterr().err
