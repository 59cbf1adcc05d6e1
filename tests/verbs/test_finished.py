"""A finished run is recognised wherever its outcome is the same, and nothing is run again."""

import pytest
from tests.tiny import save_llama, save_text, words

from coterie import PruneRequest, UserError, prune
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.verbs.after_cut.heal import heal
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.compare.run import compare
from coterie.verbs.outputs.finished import FinishedRun, same_outcome
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.run import sparsify


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt", words()[::2])
    save_text(home / "judges.txt", words()[1::2])
    return home


def texts(home, device):
    return {
        "model": str(home / "model"),
        "calibration": str(home / "text.txt"),
        "sequences": 4,
        "length": 16,
        "device": device,
    }


def by_prune(home, where, device):
    asked = PruneRequest(**texts(home, device), remove=2, method="one-shot")
    return prune(asked, **where).record


def by_sparsify(home, where, device):
    rule = {"allocation": "uniform", "pruner": "magnitude"}
    return sparsify(SparsifyRequest(**texts(home, device), sparsity=0.5, **rule), **where)


def by_compare(home, where, device):
    contest = {"removals": (1,), "methods": ("one-shot",), "seeds": 1, "rounds": 0}
    return compare(CompareRequest(**texts(home, device), **contest), **where)


def by_heal(home, where, device):
    if not (home / "cut").is_dir():
        (home / "cut").mkdir()
        write_cut(resolve(str(home / "model")), [0, 1, 3], home / "cut")
    request = HealRequest(
        str(home / "cut"),
        teacher=str(home / "model"),
        text=str(home / "text.txt"),
        held_out=str(home / "judges.txt"),
        mode="full",
        steps=1,
        batch=2,
        device=device,
    )
    return heal(request, output=where["output"], progress=where["progress"]).record


class Heard(NoProgress):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.mark.parametrize(
    ("run", "other"),
    [(by_prune, "cpu,cpu"), (by_sparsify, "cpu:0"), (by_compare, "cpu:0"), (by_heal, "cpu:0")],
)
def test_a_finished_run_is_reported_again_on_other_devices_of_its_type(
    run, other, home, tmp_path, monkeypatch
):
    where = {"output": tmp_path / "out", "store": tmp_path / "s.sqlite", "progress": NoProgress()}
    first = run(home, where, "cpu")
    files = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    heard = Heard()
    nowhere = {**where, "store": tmp_path / "none.sqlite", "progress": heard}
    again = run(home, nowhere, other)
    assert again.as_json() == first.as_json()
    assert heard.lines[-1] == "out holds the finished run of this very request"
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == files
    assert not (tmp_path / "none.sqlite").exists()


def test_the_type_of_the_device_decides_and_old_records_are_read():
    now = {"remove": 2, "lock": (1,), "device": "cuda"}
    alike = {"remove": 2, "lock": [1]}
    for device in ("cuda", "cuda:1", "cuda:0,cuda:1", "cuda:all", "auto"):
        assert same_outcome({**alike, "device": device}, now)
    assert not same_outcome({**alike, "device": "cpu"}, now)
    assert not same_outcome({**alike, "device": "cuda", "remove": 3}, now)
    assert not same_outcome({**alike, "device": "cuda", "more": 1}, now)
    assert not same_outcome(None, now)


def test_a_folder_is_checked_before_and_after(tmp_path):
    (tmp_path / "file.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        FinishedRun(OutputFolder(tmp_path), ended=lambda _: None)
    there = FinishedRun(OutputFolder(tmp_path), ended=lambda _: ("report", {"a": 1}))
    assert there.same({"a": 1}, NoProgress()) == "report"
    with pytest.raises(UserError, match="not empty"):
        there.same({"a": 2}, NoProgress())
