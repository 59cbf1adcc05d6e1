"""What would go wrong at the end of a run is told at its beginning, before a weight is loaded."""

import json
import shutil

import pytest
from tests.tiny import save_llama, save_text, words
from transformers import PreTrainedModel

from coterie.cli import main
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve

GAME = ["--sequences", "4", "--length", "16", "--device", "cpu", "--method", "one-shot"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    (home / "cut").mkdir()
    write_cut(resolve(str(home / "model")), [0, 1, 3, 4, 5], home / "cut")
    save_text(home / "text.txt", words()[::2])
    save_text(home / "judges.txt", words()[1::2])
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


@pytest.mark.parametrize("failing", ["prune.rehearsal.write_fields", "outputs.rehearsal.carry"])
def test_a_disk_that_cannot_be_written(failing, home, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(f"coterie.verbs.{failing}", fail)
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


def test_a_comparison_whose_files_cannot_be_written(home, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise OSError(30, "Read-only file system")

    def opened(*_, **__):
        raise AssertionError("the search has begun")

    monkeypatch.setattr("coterie.verbs.compare.run.open_workspace", opened)
    line = other_verbs(home, home / "model", tmp_path / "out")["compare"]
    # All of its files are written once, with no method played, and none is left.
    assert main(line) == 1
    assert "the search has begun" in capsys.readouterr().err
    monkeypatch.setattr("coterie.verbs.compare.output.draw_comparison", fail)
    code, said = refused(capsys, line)
    assert code == 2 and "cannot be written (Read-only file system)" in said
    assert not [path for path in tmp_path.iterdir() if "store" not in path.name]


def other_verbs(home, model, output):
    text, judges = str(home / "text.txt"), str(home / "judges.txt")
    learn = ["--teacher", str(home / "model"), "--text", text, "--held-out", judges]
    game = ["--sequences", "4", "--length", "16", "--device", "cpu", "--calibration", text]
    lines = {
        "cut": ["--layers", "1"],
        "sparsify": ["--sparsity", "0.5", "--pruner", "magnitude", *game],
        "heal": [*learn, "--steps", "2", "--batch", "2", "--device", "cpu"],
        "repair": [*learn, "--device", "cpu"],
        "quantize": ["--held-out", judges, "--device", "cpu"],
        "compare": ["--remove", "1", "--methods", "one-shot", *game],
    }
    return {
        verb: [verb, str(model), *more, "--output", str(output)] for verb, more in lines.items()
    }


@pytest.fixture
def no_weights(monkeypatch):
    """Whoever loads a model that is more than its shapes has come too far."""
    real = PreTrainedModel.from_pretrained.__func__

    def loaded(kind, *args, **options):
        if options.get("device_map") != {"": "meta"}:
            raise AssertionError("weights are loaded")
        return real(kind, *args, **options)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(loaded))


@pytest.mark.parametrize("verb", ["cut", "sparsify", "heal", "repair", "quantize"])
def test_every_verb_looks_for_room_first(verb, home, tmp_path, capsys, monkeypatch, no_weights):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10))
    model = home / ("cut" if verb in ("heal", "repair") else "model")
    code, said = refused(capsys, other_verbs(home, model, tmp_path / "out")[verb])
    assert code == 1 and "make room" in said
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.mark.parametrize("verb", ["cut", "sparsify", "heal", "repair", "quantize"])
def test_every_verb_carries_its_files_first(verb, home, tmp_path, capsys, no_weights):
    model = home / ("cut" if verb in ("heal", "repair") else "model")
    model = shutil.copytree(model, tmp_path / "model")
    (tmp_path / "id_rsa").write_text("a key")
    (model / "LICENSE").symlink_to(tmp_path / "id_rsa")
    code, said = refused(capsys, other_verbs(home, model, tmp_path / "out")[verb])
    assert code == 2 and "LICENSE of 'model' is a link" in said


@pytest.mark.parametrize("verb", ["sparsify", "heal", "repair", "quantize", "compare"])
def test_every_verb_tries_the_exchange_first(verb, home, tmp_path, capsys, monkeypatch, no_weights):
    from pathlib import Path

    def rename(path, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", rename)
    model = home / ("cut" if verb in ("heal", "repair") else "model")
    code, said = refused(capsys, other_verbs(home, model, tmp_path / "out")[verb])
    assert code == 2 and "could not be put in place" in said
