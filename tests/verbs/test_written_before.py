"""What an earlier version of the package has written is read by today's: record, store, texts.

`coterie.json` and `store.sqlite` are of one run on the reference model and `text.txt`; `demo.json`
is the record of the run that `make demo` does.
"""

import importlib.metadata
import io
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from rich.console import Console

from coterie import PruneRequest, prune
from coterie.report.terminal.utilities import print_mixed
from coterie.verbs.outputs.records import read_record

BEFORE = Path(__file__).parents[1] / "fixtures" / "written_before"


@pytest.fixture
def record():
    return json.loads((BEFORE / "coterie.json").read_text())


@pytest.fixture
def same_versions(record, monkeypatch):
    """The versions of then: facts are stored under those of torch and transformers."""
    now = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: record["versions"].get(name) or now(name)
    )


def request():
    return PruneRequest(
        "reference",
        remove=4,
        method="one-shot",
        calibration=str(BEFORE / "text.txt"),
        sequences=4,
        length=64,
        device="cpu",
        dtype="float32",
    )


def values(record):
    return [layer["value"] for layer in record["contributions"]["layers"]]


def facts(store):
    with sqlite3.connect(store) as db:
        return db.execute("SELECT * FROM observation").fetchall()


@pytest.mark.parametrize("name", ["coterie.json", "demo.json"])
def test_a_record_is_read_and_printed(name, tmp_path):
    shutil.copyfile(BEFORE / name, tmp_path / "coterie.json")
    plain = json.loads((BEFORE / name).read_text())
    out = io.StringIO()
    print_mixed(read_record(tmp_path), Console(file=out, width=100))
    told = out.getvalue()
    loss = plain["verdict"]["difference"]["nll"]
    assert f"{loss:+.4f}" in told and f"×{plain['verdict']['ratio']:.3f}" in told
    assert all(one["method"] in told for one in plain["choice"]["sizes"][0]["finalists"])


def test_a_store_answers_the_same_run_and_nothing_is_evaluated_anew(
    record, same_versions, tmp_path
):
    store = tmp_path / "store.sqlite"
    shutil.copyfile(BEFORE / "store.sqlite", store)
    prune(request(), output=tmp_path / "out", store=store)
    again = json.loads((tmp_path / "out" / "coterie.json").read_text())
    for part in ("cut", "choice", "verdict", "calibration", "held_out", "size"):
        # Fields may be new; what there was is the same.
        assert again[part] == {**again[part], **record[part]}
    # What so few coalitions teach of each layer is no longer told: they do not predict the cut.
    assert set(values(again)) == {None} and None not in values(record)
    assert len(again["absences"]["layers"]) == len(values(record))
    assert again["budget"]["known"] == again["budget"]["distinct"] == record["budget"]["distinct"]
    assert again["budget"]["layer_tokens_executed"] == 0
    assert facts(store) == facts(BEFORE / "store.sqlite")


def test_a_finished_run_is_recognised(record, same_versions, tmp_path):
    shutil.copyfile(BEFORE / "coterie.json", tmp_path / "coterie.json")
    prune(request(), output=tmp_path, store=tmp_path / "none.sqlite")
    assert [file.name for file in tmp_path.iterdir()] == ["coterie.json"]
