"""The campaign in short: files mutated, attacks, sockets blocked; all in this process."""

import importlib.util
import random
import socket
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests.tiny import save_llama, save_text, tokenizer, words

from coterie.cli import main
from coterie.errors import UserError
from coterie.texts.specs import read_documents

FILE = Path(__file__).parents[1] / "benchmarks" / "reliability.py"
MUTATED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
           "model.safetensors.index.json", "generation_config.json")  # fmt: skip


@pytest.fixture(scope="module")
def campaign():
    if not FILE.is_file():
        pytest.skip("the benchmarks are not part of this distribution")
    spec = importlib.util.spec_from_file_location("reliability", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reliability"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path):
    return save_llama(tmp_path / "model", n_layers=3)


@pytest.fixture(autouse=True)
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_STORE", str(tmp_path / "store.sqlite"))


def prune(model, text, output):
    return ["prune", str(model), "--remove", "1", "--method", "one-shot", "--sequences", "4",
            "--length", "16", "--device", "cpu", "--calibration", str(text),
            "--output", str(output)]  # fmt: skip


def ended_well(code, capsys, tmp_path):
    said = capsys.readouterr().err
    assert code in (0, 1, 2), said
    assert "Traceback" not in said and "not foreseen" not in said, said
    assert code == 0 or not (tmp_path / "out").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("name", MUTATED)
def test_a_mutated_file_is_read_or_refused(name, number, model, tmp_path, capsys, campaign):
    rng = random.Random(f"{name} {number}")
    file = model / name
    before = file.read_bytes() if file.is_file() else b'{"metadata": {}, "weight_map": {}}'
    file.write_bytes(campaign.mutated(before, rng, header=name.endswith("safetensors")))
    code = main(["cut", str(model), "--layers", "1", "--output", str(tmp_path / "out")])
    ended_well(code, capsys, tmp_path)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv", ".tsv", ".json", ".txt.gz", ".parquet"])
def test_a_mutated_text_is_read_or_refused(kind, number, tmp_path, campaign):
    rng = random.Random(f"{kind} {number}")
    text = tmp_path / f"text{kind}"
    text.write_bytes(campaign.mutated_bytes(b'{"text": "some words"}\n' * 40, rng))
    with suppress(UserError):
        read_documents(str(text), tokenizer(), rng=np.random.default_rng(0))


ATTACKS = ["weights as a pickle", "pickles beside the weights", "code of the model",
           "code of the tokenizer", "a template that leaves the sandbox",
           "an index that leads outside"]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_code_runs_and_no_socket_is_opened(
    attack, model, tmp_path, capsys, campaign, monkeypatch
):
    assert set(ATTACKS) == set(campaign.ATTACKS)

    def connect(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    line = prune(model, save_text(tmp_path / "text.txt", words()), tmp_path / "out")
    campaign.ATTACKS[attack](model, tmp_path / "ran", line)
    code = main(line)
    assert not (tmp_path / "ran").exists()
    assert code == (0 if attack == "pickles beside the weights" else 2)
    ended_well(code, capsys, tmp_path)
