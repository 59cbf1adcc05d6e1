"""Attention and feed-forward blocks as players of the two verbs that play the game."""

import json
import sqlite3
import subprocess
import sys
from typing import get_args

import pytest
import torch
from tests.tiny import N_LAYERS, save_llama, save_text, tokenizer
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from coterie.cli import main
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import PLAYERS
from coterie.players import BLOCKS, Kind
from coterie.testing.tiny import tiny_model

QUICK = ["--length", "16", "--sequences", "6", "--budget", "60", "--method", "paper"]

PLAIN = """
import sys
import torch
from transformers import AutoModelForCausalLM
how = {"dtype": torch.float32, "trust_remote_code": True}
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], **how)
with torch.no_grad():
    torch.save(model(torch.arange(3, 19)[None], use_cache=False).logits, sys.argv[2])
assert not any(name.partition(".")[0] == "coterie" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a Llama, a text, and one finished `prune --players sublayer`."""
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model", dtype=torch.float32)
    save_text(home / "text.txt")
    assert main(arguments(home, "prune", "--players", "sublayer", "--remove", "3")) == 0
    return home


def arguments(home, verb, *more, model="model", output="out", store="store.sqlite"):
    texts = ["--calibration", str(home / "text.txt"), "--store", str(home / store)]
    where = ["--output", str(home / output)] if verb == "prune" else []
    return [verb, str(home / model), *where, *QUICK, *texts, *more]


def record_of(home, output="out"):
    return json.loads((home / output / "coterie.json").read_text())


def games(home, store="store.sqlite"):
    with sqlite3.connect(home / store) as db:
        return db.execute(
            "SELECT game, length(coalition), count(*) FROM observation GROUP BY 1, 2"
        ).fetchall()


def test_the_kinds_are_those_the_models_know():
    assert get_args(Kind) == PLAYERS == tuple(BLOCKS)


def test_a_block_cut_loads_elsewhere_and_is_what_was_masked(home, tmp_path):
    cut = record_of(home)["cut"]
    subprocess.run([sys.executable, "-c", PLAIN, home / "out", tmp_path / "logits.pt"], check=True)
    model = AutoModelForCausalLM.from_pretrained(home / "model", dtype=torch.float32)
    coalition = [player in cut["kept"] for player in range(2 * N_LAYERS)]
    with torch.no_grad(), routed(model, find_players(model, "sublayer"), coalition):
        masked = model(torch.arange(3, 19)[None], use_cache=False).logits
    assert coalition.count(False) == 3
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), masked, rtol=0, atol=1e-5)


def test_the_record_and_the_card_name_blocks(home):
    record = record_of(home)
    layers, cut = record["contributions"]["layers"], record["cut"]
    assert [layer["player"] for layer in layers[:3]] == ["0.attention", "0.mlp", "1.attention"]
    assert [layer["layer"] for layer in layers] == [i // 2 for i in range(2 * N_LAYERS)]
    assert cut["removed_labels"] == [layers[player]["player"] for player in cut["removed"]]
    lowest = sorted(range(len(layers)), key=lambda player: layers[player]["value"])[:3]
    assert cut["removed"] == sorted(lowest)
    assert record["model"]["player_kind"] == record["request"]["players"] == "sublayer"
    assert "--players sublayer" in record["command"]
    assert record["runtimes"] == ["transformers with trust_remote_code=True"]
    card = (home / "out" / "README.md").read_text()
    assert "3 of 12 blocks cut" in card and "trust_remote_code=True" in card
    assert str(home) not in card


def test_facts_of_layers_and_of_blocks_never_mix(home, capsys):
    before = games(home)
    for kind, third in (("attention", "3.attention"), ("layer", "3")):  # six players each
        assert main(arguments(home, "values", "--players", kind, "--json")) == 0
        record = json.loads(capsys.readouterr().out)
        layers = record["contributions"]["layers"]
        assert record["budget"]["known"] == 0
        assert len(layers) == N_LAYERS and layers[3]["player"] == third
    after = games(home)
    assert set(before) < set(after) and len(after) == len(before) + 2


def test_the_plan_of_a_block_cut_foresees_its_size(home, capsys):
    size = record_of(home)["size"]
    asked = ["--players", "mlp", "--remove", "3", "--dry-run", "--json"]
    assert main(arguments(home, "prune", *asked, output="planned")) == 0
    planned = json.loads(capsys.readouterr().out)["plan"]["disk_bytes"]
    block = 3 * 32 * 64 * 4  # gate, up and down in float32
    assert abs(size["bytes_before"] - planned - 3 * block) < 3 * block * 0.02
    assert not (home / "planned").exists()


@pytest.fixture(scope="module")
def others(home):
    """Families whose blocks are players, but cannot be cut out of a file, or are no players."""
    for family in ("gpt2", "mamba2"):
        model = tiny_model(family, 4)
        model.resize_token_embeddings(400)
        model.save_pretrained(home / family)
        tokenizer().save_pretrained(home / family)
    return home


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_family_that_cannot_be_saved_is_refused_before_it_is_loaded(
    others, capsys, monkeypatch, more
):
    def loaded(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("coterie.verbs.shared.opened_model.load_model", loaded)
    asked = ["--players", "mlp", "--remove", "1", *more]
    where = {"model": "gpt2", "output": "refused", "store": "none.sqlite"}
    assert main(arguments(others, "prune", *asked, **where)) == 2
    told = capsys.readouterr().err
    assert "is a gpt2: single blocks can be saved of llama and mistral" in told
    assert told.count("\n") == 1
    assert not (others / "refused").exists() and not (others / "none.sqlite").exists()


def test_what_cannot_be_saved_can_be_studied(others, capsys):
    assert main(arguments(others, "values", "--players", "mlp", "--json", model="gpt2")) == 0
    layers = json.loads(capsys.readouterr().out)["contributions"]["layers"]
    assert [layer["player"] for layer in layers] == [f"{i}.mlp" for i in range(4)]


def test_layers_that_are_not_built_of_blocks_are_refused(others, capsys):
    assert main(arguments(others, "values", "--players", "mlp", model="mamba2")) == 2
    assert "only whole layers of this model are players" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--players", "heads", "--remove", "1"), "there are layer, attention, mlp, sublayer"),
        (("--players", "attention", "--remove", "6"), "cannot remove 6 attention blocks"),
        (("--players", "sublayer", "--remove", "6"), "remove at most 5, or name a layer"),
        (("--players", "sublayer", "--remove", "2", "--lock", "6"), "layers 0 to 5"),
    ],
)
def test_a_mistake_about_players_is_one_line(home, capsys, more, complaint):
    assert main(arguments(home, "prune", *more, output="refused")) == 2
    told = capsys.readouterr().err
    assert complaint in told and told.count("\n") == 1
    assert not (home / "refused").exists()


def test_a_locked_layer_keeps_its_blocks_and_half_of_all_may_go(home):
    asked = ["--players", "sublayer", "--ratio", "0.5", "--lock", "0"]
    assert main(arguments(home, "prune", *asked, output="half")) == 0
    record = record_of(home, "half")
    assert len(record["cut"]["removed"]) == 6
    locked = ["0.attention", "0.mlp"]
    assert list(record["model"]["locked"]) == locked == record["cut"]["kept_labels"][:2]
    assert [one["value"] is None for one in record["contributions"]["layers"][:3]] == [1, 1, 0]
    loaded = AutoModelForCausalLM.from_pretrained(home / "half", trust_remote_code=True)
    assert isinstance(loaded, LlamaForCausalLM)
