"""What would go wrong at the end of a run is told at its beginning, before a weight is loaded."""

import json
import shutil

import pytest
from tests.tiny import save_llama, save_text, words

from coterie.cli import main

GAME = ["--sequences", "4", "--length", "16", "--device", "cpu", "--method", "one-shot"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt", words())
    return home


@pytest.fixture(autouse=True)
def no_search(tmp_path, monkeypatch):
    """Whoever opens a model has come too far."""
    monkeypatch.setenv("COTERIE_STORE", str(tmp_path / "store.sqlite"))

    def opened(*_, **__):
        raise AssertionError("the search has begun")

    monkeypatch.setattr("coterie.verbs.prune.run.open_workspace", opened)


def prune(home, output, *more, model=None):
    model = home / "model" if model is None else model
    return ["prune", str(model), "--remove", "1", *GAME, "--calibration", str(home / "text.txt"),
            "--output", str(output), *more]  # fmt: skip


def refused(capsys, line):
    code = main(line)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the search has begun" not in said
    return code, said


def test_nothing_is_left_of_a_rehearsal(home, tmp_path, capsys):
    assert main(prune(home, tmp_path / "out")) == 1
    assert "the search has begun" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "store" not in path.name]


def test_a_rename_that_is_refused(home, tmp_path, capsys, monkeypatch):
    from pathlib import Path

    def rename(path, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", rename)
    code, said = refused(capsys, prune(home, tmp_path / "out"))
    assert code == 2 and "could not be put in place" in said


@pytest.mark.parametrize("failing", ["write_fields", "carry"])
def test_a_disk_that_cannot_be_written(failing, home, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(f"coterie.verbs.prune.rehearsal.{failing}", fail)
    code, said = refused(capsys, prune(home, tmp_path / "out"))
    assert code == 2 and "cannot be written (Read-only file system)" in said


def test_a_disk_without_room(home, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10))
    code, said = refused(capsys, prune(home, tmp_path / "out"))
    assert code == 1 and "make room" in said


def test_a_cache_for_code_that_cannot_be_written(home, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", "/proc/nope")
    code, said = refused(capsys, prune(home, tmp_path / "out", "--players", "sublayer"))
    assert code == 2 and "/proc/nope" in said and "HF_HOME" in said


def test_a_config_that_would_not_be_read_again(home, tmp_path, capsys):
    model = shutil.copytree(home / "model", tmp_path / "model")
    raw = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(raw | {"layer_types": ["full_attention"] * 5}))
    code, _ = refused(capsys, prune(home, tmp_path / "out", model=model))
    assert code in (1, 2)


@pytest.mark.parametrize(
    "stage",
    [
        # Healing learns from the text that chooses, unless that lies elsewhere: C4 is not here.
        ["--heal", "2", "--calibration", "allenai/c4:en"],
        ["--quantize", "int4"],
        ["--quantize", "nonsense"],
        ["--heal", "0"],
    ],
)
def test_what_a_later_stage_needs(stage, home, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _ = refused(capsys, prune(home, tmp_path / "out", *stage))
    assert code == 2
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
