"""`repair --stream`, and a cut or a search with a repair, of a model that is never whole."""

import numpy as np
import pytest
import torch
from tests.after_cut.test_repair import asked
from tests.tiny import N_LAYERS

from coterie.cli import main
from coterie.errors import VerificationError
from coterie.models.files.sources import resolve
from coterie.models.files.tensors import read_tensor
from coterie.verbs.after_cut import repair as repair_module
from coterie.verbs.after_cut.repair import repair
from coterie.verbs.outputs.records import read_record


@pytest.fixture
def never_whole(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a whole model was loaded")

    monkeypatch.setattr(repair_module, "load_model", refuse)
    monkeypatch.setattr("coterie.verbs.shared.opened_model.load_model", refuse)
    monkeypatch.setattr("coterie.verbs.cut.load_model", refuse)
    monkeypatch.setattr("coterie.models.cutting.verify._reload", refuse)


def tensors(folder):
    return {entry.name: read_tensor(entry).float() for entry in resolve(str(folder)).entries}


class Told:
    """What a run says."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)

    def step(self, *_):
        pass


def test_streamed_and_in_memory_the_same_checkpoint_is_written(cut, whole, text, tmp_path):
    done = {}
    for stream in (False, True):
        told = Told()
        request = asked(cut, whole, text, method="spread", sequences=24, stream=stream)
        done[stream] = repair(request, output=tmp_path / str(stream), progress=told)
    wanted, found = tensors(tmp_path / "False"), tensors(tmp_path / "True")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        # Written in bf16: a last bit may fall on the other side.
        torch.testing.assert_close(found[name], value, rtol=2**-7, atol=1e-6)
    memory, streamed = done[False].part, done[True].part
    for part in ("full", "before", "after"):
        pair = [getattr(one, part).nll for one in (memory, streamed)]
        np.testing.assert_allclose(*pair, atol=1e-4)
    assert streamed.repair.name == memory.repair.name == "spread"
    assert "stream" not in memory.settings and streamed.settings["stream"] is True
    assert "--stream" in streamed.command
    said = next(line for line in told.lines if line.startswith("streaming: a pass reads"))
    assert "of weights" in said and "of states" in said and "in temporary files" in said
    assert "times all layers" in streamed.repair.remarks[-1]


def test_a_checkpoint_that_does_otherwise_is_not_left(cut, whole, text, tmp_path, monkeypatch):
    write = repair_module.write_repaired

    def other(source, stack, kept, folder, weights):
        return write(source, stack, kept, folder, {})

    monkeypatch.setattr(repair_module, "write_repaired", other)
    request = asked(cut, whole, text, method="spread", sequences=24, stream=True)
    with pytest.raises(VerificationError, match="of the repaired layers"):
        repair(request, output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_prune_searches_and_repairs_without_a_whole_model(
    whole, text, tmp_path, capsys, never_whole
):
    words = ["prune", str(whole), "--remove", "2", "--calibration", str(text), "--sequences", "4"]
    words += ["--method", "one-shot", "--stream", "--repair", "down", "--device", "cpu"]
    words += ["--store", str(tmp_path / "store.sqlite")]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    record = read_record(tmp_path / "out")
    assert record.after[-1].what == "repair" and "--stream --repair down" in record.command
    assert "repaired" not in (record.choice.remark or "")
    assert len(record.cut.kept) == N_LAYERS - 2
    assert main([*words, "--dry-run", "--output", str(tmp_path / "planned")]) == 0
    told = capsys.readouterr().out
    assert "streamed" in told and "repaired search" not in told
    bad = [*words, "--heal", "2", "--output", str(tmp_path / "other")]
    assert main(bad) == 2
    assert "--stream never holds a whole model" in capsys.readouterr().err


def test_what_cannot_be_repaired_is_told_before_the_search(
    whole, text, tmp_path, capsys, monkeypatch
):
    def refuse(model, stack):
        raise repair_module.RepairError("the layers share weights")

    monkeypatch.setattr("coterie.repair.streamed.check_unshared", refuse)
    monkeypatch.setattr("coterie.verbs.prune.stages.StagedRun.cut", lambda *_: pytest.fail("cut"))
    words = ["prune", str(whole), "--remove", "2", "--calibration", str(text), "--sequences", "4"]
    words += ["--stream", "--repair", "down", "--device", "cpu", "--output", str(tmp_path / "out")]
    assert main(words) == 2
    assert "share weights" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_cut_repairs_without_a_whole_model(whole, text, tmp_path, capsys, never_whole):
    words = ["cut", str(whole), "--layers", "1,4", "--text", str(text), "--device", "cpu"]
    words += ["--repair", "down", "--stream", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    assert "checked in structure only" in capsys.readouterr().out
    record = read_record(tmp_path / "out")
    assert record.cut.removed == [1, 4] and record.after[-1].what == "repair"
