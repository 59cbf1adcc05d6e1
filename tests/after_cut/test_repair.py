"""`coterie repair`: a cut checkpoint refitted, proved and judged, alone or with its cut."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from tests.after_cut.conftest import KEPT
from transformers import AutoModelForCausalLM

from coterie import PruneRequest, prune
from coterie.cli import main
from coterie.errors import RepairError
from coterie.healing.origin import Descent, HealError, descent
from coterie.models.files.sources import resolve
from coterie.models.files.tensors import read_tensor
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.repair.amount import sequences_in_a_game, sequences_to_fit
from coterie.repair.choose import AUTO, names_of, repaired_weights
from coterie.repair.game import RepairedGame
from coterie.repair.repairable import WholeModel
from coterie.repair.table import REPAIRS
from coterie.repair.write import as_stored, write_repaired
from coterie.report.wording.standing import advice, standing
from coterie.verbs.after_cut.heal import heal
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.repair import repair
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.outputs.records import read_record


@dataclass
class Config:
    """The fields of a model's config that say how wide its layers are."""

    hidden_size: int
    intermediate_size: int | None


def asked(cut, whole, text, **settings):
    text = str(text)
    return RepairRequest(
        str(cut), teacher=str(whole), text=text, calibration=text, device="cpu", **settings
    )


def test_a_repaired_checkpoint_is_plain_and_remembered(cut, whole, text, tmp_path):
    request = asked(cut, whole, text, method="down")
    done = repair(request, output=tmp_path / "out")
    part, found = done.part, done.part.repair
    assert part.what == "repair" and part.full is not None and set(found.tried) == {"down"}
    assert found.name in ("down", "none")
    assert (found.name == "none") == (found.tried["down"] >= found.as_cut)
    if found.name == "none":
        assert part.difference.nll == pytest.approx(0, abs=1e-6)
    sizes = [(tmp_path / "out" / "config.json").read_text(), (cut / "config.json").read_text()]
    assert json.loads(sizes[0]) == json.loads(sizes[1])
    old, new = resolve(str(cut)), resolve(str(tmp_path / "out"))
    assert [(e.name, e.shape, e.dtype) for e in old.entries] == [
        (e.name, e.shape, e.dtype) for e in new.entries
    ]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert model.config.num_hidden_layers == len(KEPT)
    record = read_record(tmp_path / "out")
    assert record.after[-1].repair.tried == found.tried
    gaps = record.after[-1].repair.by_gap
    assert found.name == "none" if gaps is None else [one.gone for one in gaps.gaps] == [[1], [4]]
    assert "## Repair" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    again = repair(request, output=tmp_path / "out")
    assert again.part.as_json() == part.as_json()


def test_what_is_wrong_is_told_before_anything_is_loaded(cut, whole, text, tmp_path):
    with pytest.raises(RepairError, match="'sideways' is unknown"):
        RepairRequest(str(cut), method="sideways").check()
    with pytest.raises(RepairError, match="--method none repairs nothing"):
        RepairRequest(str(cut), method="none").check()
    with pytest.raises(HealError, match=r"nothing to heal|is no layer"):
        repair(asked(whole, whole, text), output=tmp_path / "out")
    with pytest.raises(RepairError, match="tokens are too few to refit the 64 columns"):
        repair(asked(cut, whole, text, method="down", sequences=1), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_texts_grow_with_the_columns_and_with_the_device():
    small, large = Config(576, 1536), Config(4096, 14336)
    assert sequences_to_fit(small, 128, "cpu") == 256
    assert sequences_to_fit(small, 128, "cuda") == 2048
    assert sequences_to_fit(large, 128, "cpu") == 4 * (4096 + 14336) // 128
    assert sequences_to_fit(large, 128, "cuda") == 2048
    assert sequences_in_a_game(small, 128) == 33
    assert sequences_to_fit(Config(64, None), 128, "cpu") == 256


def test_prune_repairs_in_one_run_unless_told_otherwise(whole, text, tmp_path, capsys, monkeypatch):
    words = ["prune", str(whole), "--remove", "2", "--calibration", str(text), "--sequences", "4"]
    words += ["--device", "cpu", "--store", str(tmp_path / "store.sqlite")]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    record = read_record(tmp_path / "out")
    assert record.after[-1].what == "repair" and "--repair" not in record.command
    # What is said first is of what lies in the folder, and then how it was as cut.
    now, as_cut = record.after[-1].sentence, record.verdict.sentence
    assert told.index(now) < told.index(f"As it was cut: {as_cut}")
    assert advice(standing(record)) == now and "repair" not in now
    assert len(record.player_times.seconds) == 6 and min(record.player_times.seconds) > 0
    assert "coalitions were repaired and compared" in record.choice.remark
    finalists = record.choice.sizes[0].finalists
    assert {"repaired", "before repair"} == {one.method for one in finalists}
    assert finalists[0].method == "repaired" and min(one.behind for one in finalists) == 0
    assert main([*words, "--dry-run", "--output", str(tmp_path / "planned")]) == 0
    told = capsys.readouterr().out
    assert "repaired search" in told and "up to 16 coalitions" in told
    assert not (tmp_path / "planned").exists()
    # What was repaired and judged is known: asked again, nothing is, and the answer is the same.
    asked = []
    monkeypatch.setattr(RepairedGame, "observe", lambda *question: asked.append(question))
    assert main([*words, "--repair", "auto", "--output", str(tmp_path / "again")]) == 0
    again = read_record(tmp_path / "again")
    assert not asked and again.cut == record.cut and "--repair auto" in again.command
    plain = [*words, "--repair", "none", "--output", str(tmp_path / "plain")]
    assert main(plain) == 0
    assert read_record(tmp_path / "plain").after is None
    bad = [
        *words,
        "--repair",
        "auto",
        "--quantize",
        "int8",
        "--quantize-first",
        "--output",
        str(tmp_path / "other"),
    ]
    assert main(bad) == 2
    assert "leave out one of the two" in capsys.readouterr().err


def test_cut_repairs_in_one_run(whole, text, tmp_path, capsys):
    words = ["cut", str(whole), "--layers", "1,4", "--text", str(text), "--device", "cpu"]
    assert main([*words, "--repair", "down", "--output", str(tmp_path / "out")]) == 0
    assert "Repair" in capsys.readouterr().out
    record = read_record(tmp_path / "out")
    assert record.cut.removed == [1, 4] and record.after[-1].what == "repair"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert main([*words, "--repair", "none", "--output", str(tmp_path / "other")]) == 2
    assert "--repair none makes none" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path / "usual")]) == 0
    assert read_record(tmp_path / "usual").after[-1].repair.tried.keys() == {AUTO[0]}
    words += ["--repair", "sideways", "--output", str(tmp_path / "other")]
    assert main(words) == 2
    assert "'sideways' is unknown" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("where", "little", "told"),
    [
        ("verbs.shared.prepared.sequences_in_a_game", 10**6, "the calibration text has"),
        ("repair.amount.free_bytes", 1000, "the states of"),
    ],
)
def test_too_little_text_or_memory_to_refit_is_told_and_the_search_stands(
    whole, text, tmp_path, monkeypatch, where, little, told
):
    monkeypatch.setattr(f"coterie.{where}", lambda *_: little)
    request = PruneRequest(
        str(whole), remove=2, calibration=str(text), sequences=4, device="cpu", repair="down"
    )
    found = prune(request, output=tmp_path / "out", store=tmp_path / "store.sqlite").record
    assert f"searched without repair: {told}" in found.choice.remark
    assert all(one.method != "repaired" for one in found.choice.sizes[0].finalists)
    assert found.after[-1].what == "repair"


def test_a_time_bounds_the_repaired_rounds_and_the_same_command_goes_on(whole, text, tmp_path):
    request = PruneRequest(str(whole), remove=2, calibration=str(text), sequences=4, device="cpu")
    store = tmp_path / "store.sqlite"
    first = prune(replace(request, time=1e-9), output=tmp_path / "one", store=store).record
    assert "as far as the time went" in first.choice.remark and first.after[-1].what == "repair"
    whole_run = prune(request, output=tmp_path / "two", store=store).record
    assert whole_run.choice.sizes[0].finalists[0].method == "repaired"
    in_store = prune(replace(request, time=1e-9), output=tmp_path / "three", store=store).record
    assert in_store.choice.remark.count("repaired and compared") == 1


def test_a_repair_nobody_asked_for_is_left_out_where_it_cannot_be_made(
    whole, text, tmp_path, monkeypatch
):
    def refused(*_: object, **__: object) -> None:
        raise RepairError("not this one")

    monkeypatch.setattr("coterie.verbs.prune.staged_run.repair", refused)
    request = PruneRequest(str(whole), remove=2, calibration=str(text), sequences=4, device="cpu")
    found = prune(request, output=tmp_path / "out", store=tmp_path / "store.sqlite").record
    assert "not repaired: not this one" in found.choice.remark and found.after is None
    assert read_record(tmp_path / "out").choice.remark == found.choice.remark
    with pytest.raises(RepairError, match="not this one"):
        prune(replace(request, repair="auto"), output=tmp_path / "two", store=tmp_path / "s.sqlite")
    assert not (tmp_path / "two").exists()


def test_the_help_names_every_repair_of_the_table(capsys):
    assert main(["repair", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in REPAIRS)
    assert set(AUTO) == {"progressive", "spread"}
    assert names_of("auto", "cpu") == ("spread",) and names_of("auto", "cuda") == AUTO


@pytest.mark.parametrize(("method", "mode"), [("progressive", "lora"), ("scalar", "full")])
def test_a_healing_begins_with_what_the_repair_gave(cut, whole, text, method, mode, tmp_path):
    repaired = tmp_path / "repaired"
    (tmp_path / "weights").mkdir()
    source = resolve(str(whole))
    model = load_model(source, dtype=torch.float32, device="cpu")
    stack, tokens = find_stack(model), np.random.default_rng(0).integers(5, 200, (40, 24))
    weights, _ = repaired_weights(WholeModel(model, stack), KEPT, tokens, REPAIRS[method])
    assert weights
    repaired.mkdir()
    write_repaired(source, stack, KEPT, repaired, as_stored(source, stack, weights))
    found = descent(resolve(str(repaired)), source)
    assert found.kept == KEPT and len(found.changed) == len(weights)
    assert descent(resolve(str(cut)), source) == Descent(KEPT, ())
    # A step that learns next to nothing leaves what the repair gave.
    request = HealRequest(
        str(repaired),
        teacher=str(whole),
        text=str(text),
        calibration=str(text),
        steps=1,
        mode=mode,
        learning_rate=1e-9,
        device="cpu",
    )
    part = heal(request, output=tmp_path / "healed").part
    assert part.after.perplexity == pytest.approx(part.before.perplexity, rel=1e-4)
    for entry in resolve(str(tmp_path / "healed")).entries:
        old = next(one for one in resolve(str(repaired)).entries if one.name == entry.name)
        torch.testing.assert_close(read_tensor(entry), read_tensor(old), rtol=1e-3, atol=1e-4)
