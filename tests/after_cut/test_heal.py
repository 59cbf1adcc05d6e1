"""Healing teaches the kept layers the full model's predictions, and moves no weight of that."""

import numpy as np
import pytest
import torch
from tests.after_cut.conftest import KEPT
from transformers import AutoModelForCausalLM

from coterie.errors import StudyMismatch
from coterie.healing.checkpoint import Checkpoint
from coterie.healing.distill import learn
from coterie.healing.gap_states import gaps
from coterie.healing.lesson import TrainingPlan
from coterie.healing.moved import Rewritten
from coterie.healing.origin import HealError, kept_players
from coterie.healing.schedule import learning_rate, training_batches
from coterie.healing.students import REFUSED, Adapted, adaptable
from coterie.healing.teachers import LiveTeacher
from coterie.healing.write import write_healed
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.scores.sequence_losses import floored_losses
from coterie.testing.tiny import tiny_model
from coterie.verbs.after_cut.heal import heal
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.outputs.records import read_record

PLAN = TrainingPlan(steps=12, batch=4, learning_rate=5e-3)


@pytest.fixture
def tokens(rng):
    return rng.integers(0, 400, size=(8, 16))


def student_of(whole, mode):
    model = load_model(resolve(str(whole)), dtype=torch.float32, device="cpu")
    stack = find_stack(model)
    if mode == "full":
        return Rewritten(model, stack, KEPT)
    pytest.importorskip("peft", reason="peft is not installed")
    return Adapted(model, stack, KEPT, rank=4, seed=0)


def test_the_kept_layers_are_told_from_bytes(whole, cut):
    assert kept_players(resolve(str(cut)), resolve(str(whole))) == KEPT


def test_another_model_is_not_the_teacher(whole, cut):
    with pytest.raises(HealError, match="--teacher"):
        kept_players(resolve(str(whole)), resolve(str(cut)))
    with pytest.raises(HealError, match="nothing to heal"):
        kept_players(resolve(str(whole)), resolve(str(whole)))


def test_seams_are_where_a_layer_follows_a_gap():
    assert gaps(KEPT) == (2, 5)
    assert gaps((0, 1)) == ()


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_pupil_starts_as_the_cut_and_its_teacher_stays(mode, whole, cut, tokens, tmp_path):
    student = student_of(whole, mode)
    ids = torch.from_numpy(tokens)
    before = student.full_logits(ids)
    plain = load_model(resolve(str(cut)), dtype=torch.float32, device="cpu")
    with student.alone(), torch.no_grad():
        assert torch.equal(student.predict(ids), plain(input_ids=ids, use_cache=False).logits)
    done = learn(
        student,
        LiveTeacher(student),
        tokens,
        PLAN,
        checkpoint=Checkpoint(tmp_path / "state.safetensors", {}),
    )
    assert done.kl[1] < done.kl[0]
    assert torch.equal(student.full_logits(ids), before)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_what_is_written_is_what_was_learned(mode, whole, cut, tokens, tmp_path):
    student = student_of(whole, mode)
    learn(
        student,
        LiveTeacher(student),
        tokens,
        PLAN,
        checkpoint=Checkpoint(tmp_path / "state.safetensors", {}),
    )
    with student.alone():
        learned, _ = floored_losses(student.model, tokens, predict=student.predict)
        with student.rounded(torch.bfloat16):
            as_written, _ = floored_losses(student.model, tokens, predict=student.predict)
        again, _ = floored_losses(student.model, tokens, predict=student.predict)
    assert np.array_equal(again, learned)  # rounding was for a look
    (tmp_path / "out").mkdir()
    write_healed(resolve(str(cut)), student.merged(), student.stack.path, KEPT, tmp_path / "out")
    healed = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert healed.dtype == torch.bfloat16
    read, _ = floored_losses(healed.float().eval(), tokens)
    np.testing.assert_allclose(read, learned, atol=0.02)  # rounded to 16 bits
    np.testing.assert_allclose(read, as_written, atol=1e-5)  # rounding is all that it was
    unhealed, _ = floored_losses(
        load_model(resolve(str(cut)), dtype=torch.float32, device="cpu"), tokens
    )
    assert np.abs(read - learned).max() < np.abs(unhealed - learned).mean()


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_interrupted_is_uninterrupted(mode, whole, tokens, tmp_path):
    straight = student_of(whole, mode)
    learn(
        straight,
        LiveTeacher(straight),
        tokens,
        PLAN,
        checkpoint=Checkpoint(tmp_path / "a.safetensors", {"seed": 0}),
    )

    def stop(done, total):
        if done == 7:
            raise KeyboardInterrupt

    state = tmp_path / "b.safetensors"
    first = student_of(whole, mode)
    with pytest.raises(KeyboardInterrupt):
        learn(
            first,
            LiveTeacher(first),
            tokens,
            PLAN,
            checkpoint=Checkpoint(state, {"seed": 0}),
            step=stop,
        )
    second = student_of(whole, mode)
    learn(second, LiveTeacher(second), tokens, PLAN, checkpoint=Checkpoint(state, {"seed": 0}))
    for name, weight in straight.merged().items():
        torch.testing.assert_close(second.merged()[name], weight, atol=1e-6, rtol=0)
    other = student_of(whole, mode)
    with pytest.raises(StudyMismatch, match="seed = 0, not 1"):
        learn(other, LiveTeacher(other), tokens, PLAN, checkpoint=Checkpoint(state, {"seed": 1}))


def test_states_after_the_gaps_draw_nearer(whole, tokens, tmp_path):
    student = student_of(whole, "full")
    plan = TrainingPlan(steps=12, batch=4, learning_rate=5e-3, gaps=1.0)
    teacher = LiveTeacher(student, gaps(KEPT))
    done = learn(
        student, teacher, tokens, plan, checkpoint=Checkpoint(tmp_path / "s.safetensors", {})
    )
    assert done.kl[1] < done.kl[0]


def test_every_sequence_comes_once_before_any_comes_twice():
    rows = training_batches(10, 4, seed=0)
    read = np.concatenate([next(rows) for _ in range(5)])
    assert sorted(read[:10]) == sorted(read[10:]) == list(range(10))


def test_the_rate_rises_and_falls_to_zero():
    rates = [learning_rate(step, 40) for step in range(41)]
    assert max(rates) == 1.0 and rates[40] == 0.0
    assert all(0 < rate <= 1 for rate in rates[:40])


def test_modules_that_refuse_adapters_are_left_out():
    model = tiny_model("mamba", 2)
    names = adaptable(model, find_stack(model), [0])
    assert names and not {name.rpartition(".")[2] for name in names} & REFUSED["mamba"]


def test_a_healed_checkpoint_says_what_it_cost(whole, cut, text, tmp_path):
    request = HealRequest(
        str(cut),
        teacher=str(whole),
        text=str(text),
        calibration=str(text),
        mode="full",
        steps=4,
        batch=2,
        device="cpu",
    )
    done = heal(request, output=tmp_path / "healed")
    part = done.part.as_json()
    assert part["difference"]["nll"] == pytest.approx(part["after"]["nll"] - part["before"]["nll"])
    assert read_record(tmp_path / "healed") is not None
    assert not list(tmp_path.glob(".healed*"))
    assert str(tmp_path) not in (tmp_path / "healed" / "coterie.json").read_text()
    assert heal(request, output=tmp_path / "healed").part.as_json() == part  # reported again
    again = HealRequest(str(tmp_path / "healed"), teacher=str(whole), text=str(text), mode="full")
    with pytest.raises(HealError, match="no layer of"):
        heal(again, output=tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"mode": "half"}, "unknown"), ({"steps": 0}, "above zero"), ({"seams": -1.0}, "negative")],
)
def test_mistakes_are_told_before_anything_is_loaded(wrong, said):
    with pytest.raises(HealError, match=said):
        HealRequest("nowhere", **wrong).check()
