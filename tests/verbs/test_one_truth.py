"""One truth per checkpoint: its card, its metadata, its figures and its files are those it has."""

import os

import pytest
from tests.tiny import save_llama, save_text, words

from coterie import (
    CompareRequest,
    EvaluateRequest,
    HealRequest,
    PruneRequest,
    PushRequest,
    QuantizeRequest,
    SparsifyRequest,
    ValuesRequest,
    evaluate,
    heal,
    prune,
    push,
    quantize,
)
from coterie.errors import UserError
from coterie.report import words as w
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cut model, healed and then quantized, with no more words than its folder."""
    home = tmp_path_factory.mktemp("home")
    mask = os.umask(0o022)
    save_llama(home / "model", n_layers=4)
    save_text(home / "text.txt", words(40))
    asked = PruneRequest(
        str(home / "model"), remove=1, method="one-shot", sequences=4, length=16, dtype="float32",
        calibration=str(home / "text.txt"),
    )  # fmt: skip
    where = {"store": home / "store.sqlite"}
    prune(asked, output=home / "small", **where)
    heal(HealRequest(str(home / "small"), mode="full", steps=2, batch=2), output=home / "healed",
         **where)  # fmt: skip
    pytest.importorskip("torchao")
    quantize(QuantizeRequest(str(home / "healed"), scheme="int8"), output=home / "int8", **where)
    os.umask(mask)
    return home


def record_of(folder):
    from coterie.verbs.outputs.records import read_record

    return read_record(folder)


def last(folder):
    record = record_of(folder)
    return record.after[-1].after if record.after else record.verdict.after


@pytest.mark.parametrize("name", ["small", "healed", "int8"])
def test_as_judged_repeats_the_report_to_the_digit(name, home):
    asked = EvaluateRequest((str(home / name),), as_judged=True, dtype="float32")
    row = evaluate(asked, store=home / "store.sqlite").models[0].perplexity[0]
    record = record_of(home / name)
    judged = record.after[-1].held_out if record.after else record.held_out
    assert row.sha256 == judged.sha256
    assert f"{row.perplexity.mean:.3f}" == f"{last(home / name).perplexity:.3f}"


def test_what_is_usual_repeats_it_too_and_the_full_model_beside(home):
    asked = EvaluateRequest((str(home / "small"), str(home / "model")), dtype="float32")
    rows = evaluate(asked, store=home / "store.sqlite").models
    before = record_of(home / "small").verdict.before
    assert f"{rows[1].perplexity[0].perplexity.mean:.3f}" == f"{before.perplexity:.3f}"


@pytest.mark.parametrize("name", ["healed", "int8"])
def test_card_and_metadata_are_those_of_the_written_folder(name, home):
    card = (home / name / "README.md").read_text()
    head = card[: card.index("## ")]
    part = record_of(home / name).after[-1]
    assert f"{last(home / name).perplexity:.3f}" in head and "this checkpoint" in head
    assert w.size(part.bytes_after) in head
    assert ("where torchao is installed" in head) == (name == "int8")
    told = push(PushRequest(home / name, "me/small"), dry_run=True)
    (result,) = [line for line in told.card.splitlines() if "value:" in line and "me/" not in line]
    assert float(result.split(":")[1]) == pytest.approx(last(home / name).perplexity)


def test_a_folder_is_pushed_by_the_name_it_has_where_the_user_stands(home, monkeypatch):
    monkeypatch.chdir(home)
    told = push(PushRequest("small", "me/small"), dry_run=True)
    assert {"README.md", "config.json", "coterie.json"} <= set(told.files)


@pytest.mark.parametrize("name", ["small", "healed", "int8"])
def test_files_have_the_mode_that_the_umask_asks_for(name, home):
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (home / name).iterdir()}
    assert set(modes.values()) == {"0o644"}, modes


def test_no_path_of_this_machine_is_in_card_or_record(home):
    for name in ("small", "healed", "int8"):
        for file in ("README.md", "coterie.json", "report.html"):
            assert str(home) not in (home / name / file).read_text()


def test_what_is_missing_is_asked_for_in_one_line(home, tmp_path):
    with pytest.raises(UserError, match=r"--teacher DIR.*--calibration FILE"):
        heal(HealRequest(str(home / "small"), mode="full", steps=1), output=tmp_path / "out",
             store=tmp_path / "other.sqlite")  # fmt: skip


def test_healing_learns_from_what_chose_the_layers(home):
    part = record_of(home / "healed").after[-1]
    assert "text.txt" in part.text.description and part.text.sha256 != part.held_out.sha256


@pytest.mark.parametrize("named", [True, False])
def test_every_verb_and_method_is_judged_by_the_same_sequences(named, tmp_path):
    save_llama(tmp_path / "model")
    save_text(tmp_path / "a.txt", words(60))
    save_text(tmp_path / "b.txt", [f"other {one}" for one in words(30)])
    texts = {"calibration": str(tmp_path / "a.txt"), "length": 16}
    if named:
        texts["held_out"] = str(tmp_path / "b.txt")
    model, zeros = str(tmp_path / "model"), {"sparsity": 0.5, "allocation": "uniform"}
    asked = [
        PruneRequest(model, remove=2, **texts),
        PruneRequest(model, remove=2, method="paper", **texts),
        PruneRequest(model, remove=2, method="one-shot", sequences=5, **texts),
        ValuesRequest(model, **texts),
        SparsifyRequest(model, sequences=20, **zeros, **texts).opening(),
        CompareRequest(model, removals=(1, 2), **texts).opening(),
    ]
    read = [prepare(one, progress=NoProgress(), choosing=False) for one in asked]
    assert len({one.held_out.sha256 for one in read}) == 1
    for one in read:  # and nobody chooses on what judges
        judges = set(one.held_out.document_names)
        chosen = set(one.calibration.document_names) | set(
            one.second.document_names if one.second else ()
        )
        assert named or not judges & chosen
