"""The main job on a tiny model: pruned, proved, resumed, reported, and refused where it must be."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny import N_LAYERS, save_llama, save_text, words
from transformers import AutoModelForCausalLM, AutoTokenizer

from coterie import PruneRequest, ValuesRequest, VerificationError, prune, values
from coterie.cli import main
from coterie.verbs.outputs.place import OutputFolder

QUICK = ["--length", "16", "--sequences", "6", "--budget", "40", "--method", "paper"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model, a text, and one finished run of `prune`."""
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt")
    assert main(arguments(home, "out")) == 0
    return home


def arguments(home, output, *more, remove=2, store="store.sqlite", model="model"):
    texts = ["--calibration", str(home / "text.txt"), "--store", str(home / store)]
    amount = ["--remove", str(remove)] if remove else []
    where = ["--output", str(home / output)]
    return ["prune", str(home / model), *amount, *where, *QUICK, *texts, *more]


def record_of(home, output):
    return json.loads((home / output / "coterie.json").read_text())


def facts(home, store="store.sqlite"):
    with closing(sqlite3.connect(home / store)) as db:
        return db.execute("SELECT game, coalition, sequence FROM observation").fetchall()


def test_the_checkpoint_is_ordinary_and_keeps_the_sources_dtype(home):
    model = AutoModelForCausalLM.from_pretrained(home / "out", dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(home / "out")
    assert model.config.num_hidden_layers == N_LAYERS - 2
    assert model.dtype == torch.bfloat16
    prompt = tokenizer("badabo", return_tensors="pt").input_ids
    assert model.generate(prompt, max_new_tokens=4, do_sample=False).shape[1] > prompt.shape[1]
    assert not list(home.glob(".*partial")) and not list(home.glob(".*old"))


def test_the_weights_are_the_sources_own(home):
    kept = record_of(home, "out")["cut"]["kept"]
    old = load_file(home / "model" / "model.safetensors")
    new = load_file(home / "out" / "model.safetensors")
    for place, layer in enumerate(kept):
        name = "model.layers.{}.mlp.up_proj.weight"
        assert torch.equal(new[name.format(place)], old[name.format(layer)])


def test_the_record_is_complete_and_names_nobody(home):
    record = record_of(home, "out")
    text = (home / "out" / "coterie.json").read_text() + (home / "out" / "README.md").read_text()
    assert str(home) not in text and os.environ.get("USER", "nobody-here") not in text.split()
    assert record["budget"]["distinct"] <= 40
    assert record["budget"]["layer_tokens_executed"] <= record["budget"]["layer_tokens_asked"]
    assert len(record["contributions"]["layers"]) == N_LAYERS
    assert all(layer["error_texts"] > 0 for layer in record["contributions"]["layers"])
    assert record["verdict"]["difference"]["error"] > 0
    assert record["calibration"]["sha256"] != record["held_out"]["sha256"]
    assert record["size"]["bytes_after"] < record["size"]["bytes_before"]
    assert (home / "out" / "contributions.png").stat().st_size > 1000


def test_the_verdict_is_that_of_the_checkpoint_on_disk(home):
    record = record_of(home, "out")
    assert record["verification"]["summary"]
    removed = record["cut"]["removed"]
    lowest = sorted(record["contributions"]["layers"], key=lambda layer: layer["value"])[:2]
    assert removed == sorted(layer["layer"] for layer in lowest)


def test_a_finished_run_started_again_reports_it(home, capsys):
    before = facts(home)
    stamp = (home / "out" / "coterie.json").stat().st_mtime_ns
    assert main(arguments(home, "out")) == 0
    assert "Contribution of each layer" in capsys.readouterr().out
    assert facts(home) == before
    assert (home / "out" / "coterie.json").stat().st_mtime_ns == stamp


def test_another_amount_on_the_same_store_evaluates_only_what_it_lacks(home):
    before = len(facts(home))
    assert main(arguments(home, "three", remove=3)) == 0
    record = record_of(home, "three")
    assert record["budget"]["known"] > 0
    assert record["cut"]["removed"] != record_of(home, "out")["cut"]["removed"]
    assert len(facts(home)) - before < before / 2


def test_json_goes_to_stdout_and_nothing_else_does(home, capsys):
    assert main(arguments(home, "out", "--json")) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == record_of(home, "out")
    assert "finished run" in captured.err


def test_values_stops_before_the_cut(home, capsys):
    values = arguments(home, "none", remove=0)
    at = values.index("--output")
    assert main(["values", *values[1:at], *values[at + 2 :], "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert "cut" not in record and len(record["contributions"]["layers"]) == N_LAYERS
    assert not (home / "none").exists()


def test_a_dry_run_states_the_work_and_does_none(home, capsys):
    before = facts(home)
    assert main(arguments(home, "none", "--dry-run", "--json", store="fresh.sqlite")) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["distinct"] == 40 and plan["known"] == 0
    assert 0 < plan["layer_tokens_executed"] <= plan["layer_tokens_asked"]
    assert plan["seconds"] > 0 and plan["memory_bytes"] > 0 and plan["disk_bytes"] > 0
    assert not (home / "fresh.sqlite").exists() and not (home / "none").exists()
    assert main(arguments(home, "none", "--dry-run", "--json")) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["known"] == 40 and plan["seconds"] == 0
    assert facts(home) == before


def test_killed_in_the_middle_and_started_again_it_ends_with_the_same_answer(home):
    slow = [*arguments(home, "whole", store="a.sqlite", remove=2), "--sequences", "12"]
    assert main(slow) == 0
    killed = [*arguments(home, "killed", store="b.sqlite", remove=2), "--sequences", "12"]
    process = subprocess.Popen(
        [sys.executable, "-m", "coterie", *killed],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        if (home / "b.sqlite").exists() and _count(home / "b.sqlite") > 0:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.01)
    assert not (home / "killed").exists()
    seen = set(facts(home, "b.sqlite"))
    assert main(killed) == 0
    whole, resumed = record_of(home, "whole"), record_of(home, "killed")
    assert seen <= set(facts(home, "b.sqlite"))
    assert {fact[1:] for fact in facts(home, "b.sqlite")} == {
        fact[1:] for fact in facts(home, "a.sqlite")
    }
    assert resumed["cut"] == whole["cut"]
    for one, other in zip(
        resumed["contributions"]["layers"], whole["contributions"]["layers"], strict=True
    ):
        assert one["value"] == pytest.approx(other["value"], abs=1e-6)


def _count(path):
    try:
        with closing(sqlite3.connect(path)) as db:
            return db.execute("SELECT COUNT(*) FROM observation").fetchone()[0]
    except sqlite3.Error:
        return 0


def test_a_named_study_resumed_under_other_settings_is_refused(home, capsys):
    assert main(arguments(home, "named", "--study", "mine")) == 0
    assert main(arguments(home, "other", "--study", "mine", "--seed", "1")) == 2
    assert "seed was 0, is 1" in one_line(capsys)
    assert not (home / "other").exists()


def one_line(capsys):
    """What stderr ends with: one line, and no traceback above it."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


def spoil(home, name, change):
    folder = save_llama(home / name)
    change(folder)
    return name


def pickle_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def not_finite(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], torch.nan)
    save_file(tensors, path, {"format": "pt"})


def adapter(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')


def encoder(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"model_type": "t5", "architectures": ["T5Model"]}))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (pickle_only, "pickle"),
        (truncate, "model.safetensors"),
        (not_finite, "not finite"),
        (adapter, "PEFT adapter"),
        (encoder, "decoder-only causal language model"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(home, capsys, change, complaint):
    name = spoil(home, f"bad-{change.__name__}", change)
    assert main(arguments(home, "refused", model=name, store="none.sqlite")) == 2
    assert complaint in one_line(capsys)
    assert not (home / "refused").exists() and not (home / "none.sqlite").exists()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--keep", "3"], "--remove and --keep"),
        (["--lock", "9"], "layers 0 to 5"),
        (["--lock", "0,1,2,3"], "at most 1 can go"),
        (["--length", "65"], "context"),
        (["--length", "1"], "length 1"),
        (["--output", "."], "the folder you are in"),
        (["--lock", "7-3"], "'7-3'"),
        (["--lock", "²"], "'²'"),
        (["--time", "nan"], "finite"),
        (["--revision", "main"], "--revision"),
        (["--sequences", "100000"], "sequences"),
        (["--calibration", "absent.txt"], "absent.txt"),
        (["--calibration", "allenai/c4:en"], "stdlib"),
        (["--time", "soon"], "90s, 20m or 2h"),
        (["--budget", "5"], "too small"),
        (["--method", "magic"], "paper"),
        (["--device", "abacus"], "abacus"),
        (["--dtype", "int3"], "int3"),
        (["--seed", "x"], "'--seed'"),
        (["--bos", "maybe"], "auto, always, never"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_nothing_is_written(home, capsys, more, complaint):
    before = sorted(path.name for path in home.iterdir())
    assert main(arguments(home, "refused", *more)) == 2
    assert complaint in one_line(capsys)
    assert sorted(path.name for path in home.iterdir()) == before


@pytest.mark.parametrize(
    ("amount", "complaint"),
    [
        (["--remove", "6"], "at most 5 can go"),
        (["--remove", "0"], "above zero"),
        (["--remove", "-1"], "above zero"),
        (["--keep", "6"], "removes nothing"),
        (["--ratio", "1.5"], "between 0 and 1"),
        ([], "how much to cut"),
    ],
)
def test_an_amount_that_cannot_be_cut_is_refused(home, capsys, amount, complaint):
    assert main(arguments(home, "refused", *amount, remove=0)) == 2
    assert complaint in one_line(capsys)
    assert not (home / "refused").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b"one short line", "tokens"),
        (b"caf\xe9 au lait " * 500, "UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(home, capsys, content, complaint):
    (home / "bad.txt").write_bytes(content)
    assert main(arguments(home, "refused", "--calibration", str(home / "bad.txt"))) == 2
    assert complaint in one_line(capsys)
    assert not (home / "refused").exists()


def test_a_folder_that_is_not_empty_is_left_alone_unless_told(home, capsys):
    assert main(arguments(home, "out", "--seed", "7")) == 2
    assert "--overwrite" in one_line(capsys)
    assert record_of(home, "out")["request"]["seed"] == 0
    assert main(arguments(home, "out-again")) == 0
    assert main(arguments(home, "out-again", "--seed", "7", "--overwrite")) == 0
    assert record_of(home, "out-again")["request"]["seed"] == 7


def test_the_source_is_never_replaced(home, capsys):
    for output in ("model", "model/inside", "."):
        assert main(arguments(home, output, "--overwrite", "--seed", "6")) == 2
        assert "overlaps the folder of the model" in one_line(capsys) or output == "."
    assert len(load_file(home / "model" / "model.safetensors")) > N_LAYERS


def test_a_finished_run_does_not_answer_for_another_text(home, capsys):
    save_text(home / "moving.txt")
    moving = ["--calibration", str(home / "moving.txt")]
    assert main(arguments(home, "moved", *moving)) == 0
    save_text(home / "moving.txt", words()[::-1])
    assert main(arguments(home, "moved", *moving)) == 2
    assert "not empty" in one_line(capsys)


def test_what_was_there_comes_back_when_the_exchange_fails(tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.mkdir()
    (output / "config.json").write_text("old")
    rename = Path.rename

    def fail(self, target):
        if "partial" in self.name:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt), OutputFolder(output, overwrite=True).written() as folder:
        (folder / "config.json").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (output / "config.json").read_text() == "old"


def test_a_run_killed_within_the_exchange_is_mended_by_the_next(tmp_path):
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "config.json").write_text("old")
    (tmp_path / ".out.partial-999999999").mkdir()
    with pytest.raises(RuntimeError), OutputFolder(tmp_path / "out", overwrite=True).written():
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "config.json").read_text() == "old"


def test_a_full_disk_leaves_nothing_behind(home, capsys, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("coterie.verbs.prune.run.draw_contributions", full)
    assert main(arguments(home, "full", "--seed", "8")) == 1
    assert "disk is full" in one_line(capsys)
    assert not (home / "full").exists() and not list(home.glob(".*partial"))


def test_ctrl_c_exits_130_and_keeps_what_was_observed(home, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("coterie.game.study.contributions", stop)
    assert main(arguments(home, "stopped", "--seed", "9")) == 130
    assert "the same command goes on" in one_line(capsys)
    assert not (home / "stopped").exists()


def test_a_checkpoint_that_is_not_what_was_measured_exits_1_and_is_gone(home, capsys, monkeypatch):
    def differ(*_, **__):
        raise VerificationError("the reloaded model's loss is 1.00e+00 nats per token away")

    monkeypatch.setattr("coterie.engine.proof.verify", differ)
    assert main(arguments(home, "wrong", "--seed", "3")) == 1
    assert "nats per token away" in one_line(capsys)
    assert not (home / "wrong").exists() and not list(home.glob(".*partial*"))


def test_python_does_the_same_in_five_lines(home):
    asked = {"remove": 2, "budget": 40, "sequences": 6, "length": 16, "method": "paper"}
    asked["calibration"] = str(home / "text.txt")
    request = PruneRequest(str(home / "model"), **asked)
    result = prune(request, output=home / "from-python", store=home / "python.sqlite")
    assert result.removed == record_of(home, "out")["cut"]["removed"]
    assert result.record.command.startswith("coterie prune model --remove 2 --method paper")
    estimated = values(ValuesRequest(request.model, **asked), store=home / "python.sqlite")
    assert estimated.contributions == result.contributions
