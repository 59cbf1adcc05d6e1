"""`coterie cut` and `coterie inspect`, from the command line to the files."""

import json

import pytest
from transformers import AutoModelForCausalLM

from coterie.cli import main
from coterie.testing.tiny import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small-gemma"
    tiny_model("gemma2", 6).save_pretrained(folder)
    return folder


def test_named_layers_are_cut_and_the_rest_loads(folder, tmp_path, capsys):
    output, recipe = tmp_path / "out", tmp_path / "recipe.yaml"
    command = ["cut", str(folder), "--layers", "1,3-4", "--output", str(output), "--json"]
    assert main([*command, "--mergekit", str(recipe)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["layers"] == [1, 3, 4]
    assert record["verification"]["max_logit_difference"] == 0
    model = AutoModelForCausalLM.from_pretrained(output)
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    assert model.config.layer_types == kinds
    assert "layer_range: [0, 1]" in recipe.read_text()
    assert main(command) == 2  # the folder is taken now
    assert "not empty" in capsys.readouterr().err


def test_a_cut_says_of_which_model_it_is_and_can_be_made_again(folder, tmp_path, capsys):
    one, again = tmp_path / "one", tmp_path / "again"
    assert main(["cut", str(folder), "--layers", "2,4", "--output", str(one)]) == 0
    record = one / "coterie.json"
    assert str(tmp_path) not in record.read_text()
    assert json.loads(record.read_text())["model"]["name"] == folder.name
    assert json.loads(record.read_text())["command"].endswith("--layers 2,4 --output one")
    assert main(["cut", str(folder), "--list", str(record), "--output", str(again)]) == 0
    weights = "model.safetensors"
    assert (one / weights).read_bytes() == (again / weights).read_bytes()
    capsys.readouterr()
    assert main(["heal", str(one), "--output", str(tmp_path / "healed")]) == 2
    assert f"cut from a local folder '{folder.name}'" in capsys.readouterr().err


def test_a_list_of_another_tool_is_read(folder, tmp_path, capsys):
    lines = ["none", "none", "attn+mlp", "none", "none", "none"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    output = tmp_path / "out"
    asked = ["cut", str(folder), "--list", str(tmp_path / "list.txt"), "--output", str(output)]
    assert main(asked) == 0
    assert "5 layers kept, 2 cut" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["--layers", "9"], "there is no layer 9"),
        (["--layers", "2,2"], "layer 2 is named twice"),
        (["--layers", "0-5"], "no layer of 6 would be left"),
        (["--layers", ""], "no layer to cut is named"),
        (["--layers", "x"], "'x' in 'x' is no layer"),
        ([], "either --layers 3,7-9 or --list FILE"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, asked, complaint, tmp_path, capsys):
    assert main(["cut", str(folder), *asked, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_locked_layer_stays(tmp_path, capsys):
    tiny_model("rwkv", 4).save_pretrained(tmp_path / "rwkv")
    asked = ["cut", str(tmp_path / "rwkv"), "--layers", "0", "--output", str(tmp_path / "out")]
    assert main(asked) == 2
    assert "layer 0 is locked: it holds the norm of the embeddings" in capsys.readouterr().err


def test_inspect_shows_players_locks_and_changes(folder, capsys):
    assert main(["inspect", str(folder), "--layers", "1-2"]) == 0
    out = capsys.readouterr().out
    assert "6 layers at model.layers, 6 may be cut" in out
    assert "num_hidden_layers: 4" in out
    assert main(["inspect", str(folder), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["players"]) == 6
