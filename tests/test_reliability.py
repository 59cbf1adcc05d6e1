"""The campaign in short: files mutated, changes refused, attacks, sockets blocked; all in here."""

import errno
import importlib
import shutil
import socket
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.tiny import save_llama, save_text, tokenizer, words

from coterie.cli import main
from coterie.errors import UserError
from coterie.texts.specs import read_documents

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def campaign():
    """A module of the campaign by its name."""
    if not (FOLDER / "trials").is_dir():
        pytest.skip("the benchmarks are not part of this distribution")
    sys.path.insert(0, str(FOLDER))
    yield lambda name: importlib.import_module(f"trials.{name}")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return save_llama(tmp_path_factory.mktemp("made") / "model", n_layers=3)


@pytest.fixture
def model(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


@pytest.fixture(autouse=True)
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_STORE", str(tmp_path / "store.sqlite"))


def prune(model, text, output):
    return ["prune", str(model), "--remove", "1", "--method", "one-shot", "--sequences", "4",
            "--length", "16", "--device", "cpu", "--calibration", str(text),
            "--output", str(output)]  # fmt: skip


def cut(model, output):
    return ["cut", str(model), "--layers", "1", "--output", str(output)]


def ended_well(code, capsys, tmp_path):
    said = capsys.readouterr().err
    assert code in (0, 1, 2), said
    assert "Traceback" not in said and "not foreseen" not in said, said
    assert code == 0 or not (tmp_path / "out").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def mutate(strategy, times, read):
    """Read as many mutations as that, the same ones each time."""
    short = settings(
        max_examples=times,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short(given(strategy)(read))()


def test_a_mutated_file_is_read_or_refused(model, tmp_path, capsys, campaign):
    def read(mutation):
        file = model / mutation.name
        before = file.read_bytes() if file.is_file() else None
        file.write_bytes(mutation.content)
        try:
            ended_well(main(cut(model, tmp_path / "out")), capsys, tmp_path)
        finally:
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            file.unlink() if before is None else file.write_bytes(before)

    mutate(campaign("mutations").of_files(model), 40, read)


def test_a_mutated_text_is_read_or_refused(tmp_path, campaign):
    reader = tokenizer()

    def read(mutation):
        text = tmp_path / f"text{mutation.name}"
        text.write_bytes(mutation.content)
        with suppress(UserError):
            read_documents(str(text), reader, rng=np.random.default_rng(0))

    mutate(campaign("mutations").of_texts(), 120, read)


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO", "EACCES"])
def test_a_change_that_is_refused_leaves_nothing(kind, model, tmp_path, capsys, campaign):
    acts, commands = campaign("acts"), campaign("commands")
    for number in (0, 2, 5, 9, 14):
        refuse = acts.refused(getattr(errno, kind))
        acts.at_change(number, tmp_path, refuse, removals=False)()
        try:
            code = main(cut(model, tmp_path / "out"))
        finally:
            commands.look_away()
        ended_well(code, capsys, tmp_path)
        assert main([*cut(model, tmp_path / "out"), "--overwrite"]) == 0
        ended_well(0, capsys, tmp_path)
        shutil.rmtree(tmp_path / "out")


N_ATTACKS = 22


@pytest.mark.parametrize("attack", range(N_ATTACKS))
def test_no_code_runs_and_no_socket_is_opened(
    attack, model, tmp_path, capsys, campaign, monkeypatch
):
    security = campaign("security")
    assert len(security.ATTACKS) == N_ATTACKS
    kind = list(security.ATTACKS)[attack]

    def connect(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    line = prune(model, save_text(tmp_path / "text.txt", words()), tmp_path / "out")
    security.ATTACKS[kind](model, tmp_path / "ran", line)
    code = main(line)
    assert not (tmp_path / "ran").exists()
    assert code == (0 if kind in security.RUNS_ALL_THE_SAME else 2)
    ended_well(code, capsys, tmp_path)
    for page in ("README.md", "report.html", "coterie.json"):
        file = tmp_path / "out" / page
        held = file.read_text() if file.is_file() else ""
        assert str(tmp_path) not in held and security.MARKUP not in held.replace("<\\/", "</")
