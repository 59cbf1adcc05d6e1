"""A list of devices plays the game that one device plays, and whoever cannot use it says so."""

import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tiny import save_llama, save_text
from tests.verbs.test_breakdowns import load_fragile

from coterie.cli import main
from coterie.engine.batch_shape import BatchShape
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.whole import prune
from coterie.verbs.shared import opened_model as opening
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.values.request import ValuesRequest
from coterie.verbs.values.run import values

CUT = ["--remove", "2", "--output", "out"]


@pytest.fixture(scope="module")
def asked(home):
    return PruneRequest(
        model=str(home / "model"),
        remove=2,
        calibration=str(home / "text.txt"),
        sequences=4,
        length=16,
        device="cpu",
        dtype="float32",
    )


@pytest.fixture(scope="module")
def runs(home, asked):
    """The record of `prune` on one device and on two, each with a store of its own.

    The batch shape is set, not timed: it decides the last bits, and those may turn a search.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coterie.engine.model_game.probe_shape", lambda *_: BatchShape(8, 64, 400))
        return pruned(home, asked)


def pruned(home, asked):
    return {
        device: prune(
            replace(asked, device=device),
            output=home / f"out-{number}",
            store=home / f"{number}.sqlite",
        ).record.as_json()
        for number, device in enumerate(("cpu", "cpu,cpu"))
    }


def facts(path):
    """Every observation of a store: which, and the losses, divergences and agreements."""
    with sqlite3.connect(path) as db:
        found = db.execute(
            "SELECT fingerprint, coalition, sequence, nll, kl, top1 FROM observation"
            " JOIN game ON game.id = observation.game ORDER BY 1, 2, 3"
        ).fetchall()
    return [row[:3] for row in found], np.array([row[3:] for row in found], dtype=float)


def test_two_devices_observe_the_same_facts_and_make_the_same_cut(home, runs):
    one, two = runs["cpu"], runs["cpu,cpu"]
    assert one["cut"] == two["cut"]
    (names, values), (again, seen) = facts(home / "0.sqlite"), facts(home / "1.sqlite")
    assert names == again
    np.testing.assert_allclose(seen, values, atol=1e-5)


def test_the_record_names_the_devices_and_adds_up_what_they_ran(runs):
    one, two = runs["cpu"], runs["cpu,cpu"]
    assert two["search"]["device"] == two["machine"]["device"] == "cpu, cpu"
    assert two["search"]["mode"] == "shared prefixes"
    assert "--device cpu,cpu" in two["command"]
    assert two["identity"]["composed"]["device"] == "cpu"
    assert one["budget"]["head_tokens"] == two["budget"]["head_tokens"]
    ran = [run["budget"]["layer_tokens_executed"] for run in (one, two)]
    assert ran[0] <= ran[1] <= one["budget"]["layer_tokens_asked"]


def test_a_run_on_two_devices_asks_nothing_that_one_device_knows(home, asked, runs):
    request = replace(asked, device="cpu,cpu")
    record = prune(request, output=home / "again", store=home / "0.sqlite").record.as_json()
    assert record["cut"] == runs["cpu"]["cut"]
    assert record["budget"]["known"] == record["budget"]["distinct"]
    assert record["budget"]["head_tokens"] == 0


def test_a_finished_run_is_recognised_whatever_the_number_of_devices(home, asked):
    def identities(device):
        request = replace(asked, device=device, remove=None)
        prepared = prepare(request, progress=NoProgress(), choosing=False)
        sparse = SparsifyRequest(model=request.model, device=device, sparsity=0.5)
        return prepared.identity(), prepared.identity(sparse.as_json())

    assert identities("cpu") == identities("cpu,cpu") == identities("cpu,cpu,cpu")


def test_what_breaks_down_on_any_device_reaches_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "load_model", load_fragile)
    request = ValuesRequest(
        model=str(save_llama(tmp_path / "model", n_layers=3, dtype=torch.float32)),
        estimator="exact",
        calibration=str(save_text(tmp_path / "text.txt")),
        sequences=2,
        length=16,
        device="cpu",
        dtype="float32",
    )
    told = []
    for number, device in enumerate(("cpu", "cpu,cpu")):
        store = tmp_path / f"{number}.sqlite"
        found = values(replace(request, device=device), store=store)
        told.append(sorted(found.record.as_json()["breakdowns"]))
    assert told[0] == told[1] and len(told[0]) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["values", "--device", "cpu,cuda:99"], "'cuda:99' is not on this machine"),
        (["values", "--device", "cpu,abacus"], "'abacus' is unknown"),
        (["values", "--device", "cpu,cpu", "--stream"], "--stream uses one"),
        (["values", "--device", "cpu,cpu", "--utility", "kl=1"], "--utility uses one"),
        (["prune", *CUT, "--device", "cpu,cpu", "--heal", "2"], "--quantize and --heal use one"),
        (["compare", "--remove", "1", "--device", "cpu,cpu"], "compare measures seconds"),
        (["evaluate", "--length", "16", "--device", "cpu,cpu"], "give one of"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_one_line(
    home, capsys, monkeypatch, words, complaint
):
    monkeypatch.chdir(home)
    before = sorted(home.iterdir())
    assert main([words[0], str(home / "model"), *words[1:]]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert complaint in lines[-1]
    assert sorted(home.iterdir()) == before
