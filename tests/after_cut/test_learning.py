"""Healing that scales: modes, losses, rates, thrift, processes, and files others can read."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.after_cut.conftest import KEPT
from transformers import OPTConfig, OPTForCausalLM

from coterie.errors import UserError
from coterie.healing import distill, lesson, several, watching
from coterie.healing.checkpoint import Checkpoint
from coterie.healing.distill import learn
from coterie.healing.gap_states import gaps
from coterie.healing.lesson import TrainingPlan
from coterie.healing.modes import MODES
from coterie.healing.moved import Rewritten
from coterie.healing.origin import HealError
from coterie.healing.recompute import recompute_layers
from coterie.healing.teacher_cache import Predictions
from coterie.healing.teachers import LiveTeacher
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.verbs.after_cut import teaching
from coterie.verbs.after_cut.heal import heal
from coterie.verbs.after_cut.heal_plan import heal_plan
from coterie.verbs.after_cut.heal_request import HealRequest

PLAN = TrainingPlan(steps=10, batch=4, learning_rate=5e-3)


@pytest.fixture
def tokens(rng):
    return rng.integers(0, 400, size=(8, 16))


def student_of(whole, mode="full", **fields):
    model = load_model(resolve(str(whole)), dtype=torch.float32, device="cpu")
    chosen = replace(MODES[mode], **fields)
    return chosen.beside(model, find_stack(model), KEPT, 4, 0)


def taught(student, tokens, path, plan=PLAN, teacher=None, **more):
    teacher = teacher or LiveTeacher(student, gaps(KEPT) if plan.gaps else ())
    return learn(student, teacher, tokens, plan, checkpoint=Checkpoint(path, {}), **more)


def test_each_mode_trains_what_it_says(whole):
    layers = {
        mode: {name.split(".")[2] for name in student_of(whole, mode).trained if ".layers." in name}
        for mode in ("full", "gaps")
    }
    # Kept are 0, 2, 3, 5 of 6: the gaps are at 1 and 4.
    assert layers == {"full": {"0", "2", "3", "5"}, "gaps": {"0", "2", "3", "5"}}
    last = student_of(whole, "last", layers=2).trained
    assert {name.split(".")[2] for name in last if ".layers." in name} == {"3", "5"}
    assert "lm_head.weight" in last and "model.norm.weight" in last
    assert "model.embed_tokens.weight" not in last
    around = MODES["gaps"].layers_of((0, 1, 2, 6, 7, 8), range(6))
    assert around == [2, 3, 5]
    assert MODES["gaps"].layers_of((2, 3, 4), (2, 3, 4)) == [2, 4]


@pytest.mark.parametrize("mode", ["last", "gaps"])
def test_a_mode_of_some_layers_learns_and_moves_nothing_else(mode, whole, tokens, tmp_path):
    student = student_of(whole, mode, layers=2)
    before = {name: one.clone() for name, one in student.model.named_parameters()}
    full = student.full_logits(torch.from_numpy(tokens))
    done = taught(student, tokens, tmp_path / "s.safetensors")
    assert done.kl[1] < done.kl[0]
    assert torch.equal(student.full_logits(torch.from_numpy(tokens)), full)
    for name, one in student.model.named_parameters():
        assert torch.equal(one, before[name])


def test_every_loss_is_measured_and_those_with_a_weight_are_descended(whole, tokens, tmp_path):
    plain = taught(student_of(whole), tokens, tmp_path / "a")
    plan = replace(PLAN, cross_entropy=1.0, gaps=0.5)
    both = taught(student_of(whole), tokens, tmp_path / "b", plan)
    assert plain.states == (0, 0) and both.states[1] < both.states[0]
    assert both.text[0] == pytest.approx(plain.text[0], rel=0.05)
    assert both.text[1] < plain.text[1]


def test_read_in_parts_recomputed_or_by_accelerate_it_is_the_same_step(
    whole, tokens, tmp_path, monkeypatch
):
    plain = student_of(whole)
    taught(plain, tokens, tmp_path / "a")
    parts = student_of(whole)
    taught(parts, tokens, tmp_path / "b", replace(PLAN, parts=2))
    again = student_of(whole)
    recompute_layers(again)
    taught(again, tokens, tmp_path / "c")
    alone = student_of(whole)
    shared = several.Accelerated(Accelerator(cpu=True))
    monkeypatch.setattr(lesson, "processes", lambda: shared)
    taught(alone, tokens, tmp_path / "d")
    for name, weight in plain.merged().items():
        torch.testing.assert_close(parts.merged()[name], weight, atol=2e-4, rtol=0)
        torch.testing.assert_close(again.merged()[name], weight, atol=1e-6, rtol=0)
        assert torch.equal(alone.merged()[name], weight)


def test_recomputed_layers_drop_nothing(tokens):
    config = OPTConfig(
        vocab_size=400,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=32,
        dropout=0.1,
        attention_dropout=0.1,
    )
    torch.manual_seed(0)
    model = OPTForCausalLM(config).eval()
    student = Rewritten(model, find_stack(model), (0, 2))
    ids, runs = torch.from_numpy(tokens), []
    model.model.decoder.layers[2].fc1.register_forward_hook(lambda *_: runs.append(1))

    def answered():
        with student.alone():
            logits = student.predict(ids)
            logits.square().mean().backward()
        found = {name: one.grad for name, one in student.trained.items()}
        for one in student.trained.values():
            one.grad = None
        return logits.detach(), found

    logits, gradients = answered()
    runs.clear()
    recompute_layers(student)
    again, recomputed = answered()
    assert len(runs) == 2 and not any(module.training for module in model.modules())
    assert torch.equal(again, logits)
    for name, one in gradients.items():
        torch.testing.assert_close(recomputed[name], one)


def test_several_processes_share_a_batch_alike(monkeypatch):
    class Three:
        is_main_process, num_processes, process_index = False, 3, 1
        device = "cpu"

        def reduce(self, one, reduction):
            # The main process has 7, and nobody else adds to it.
            return one / 2 if reduction == "mean" else one + 7

    third = several.Accelerated(Three())
    assert third.share(np.arange(6)).tolist() == [1, 4] and not third.writes
    gradient = torch.full((2,), 4.0)
    third.average([gradient])
    assert gradient.tolist() == [2, 2] and third.count == 3 and third.mains(5) == 7
    with pytest.raises(HealError, match="multiple of 3"):
        third.share(np.arange(4))
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert isinstance(several.processes(), several.OneProcess)


def test_killed_in_the_middle_it_ends_with_the_very_same_weights(
    whole, tokens, tmp_path, monkeypatch
):
    # A kill leaves what was saved last, not what was learned since: the file of step 5.
    monkeypatch.setattr(distill, "_SAVED_EVERY", 0.0)
    monkeypatch.setattr(watching, "PATIENCE", 99)  # the texts here are noise, and get worse
    plan = replace(PLAN, sweeps=True, watched=tokens[:2])
    straight = student_of(whole)
    state, kept = tmp_path / "s.safetensors", tmp_path / "killed.safetensors"

    def keep(done, total):
        if done == 6:
            shutil.copyfile(state, kept)

    first = taught(straight, tokens, state, plan, step=keep)
    resumed = student_of(whole)
    monkeypatch.setattr(distill, "sweep_rates", None)  # the rate is remembered
    second = taught(resumed, tokens, kept, plan)
    for name, weight in straight.merged().items():
        assert torch.equal(resumed.merged()[name], weight)
    assert first.watched == second.watched and first.rate == second.rate
    assert first.kl == second.kl and len(first.tried) == 5


def test_broken_off_while_weights_move_it_goes_on_from_what_was_whole(
    whole, tokens, tmp_path, monkeypatch
):
    monkeypatch.setattr(distill, "_SAVED_EVERY", 0.0)
    straight, stopped, resumed = student_of(whole), student_of(whole), student_of(whole)
    plan = replace(PLAN, steps=6, batch=2)
    taught(straight, tokens, tmp_path / "a", plan)
    calls = iter(range(1, 99))

    def broken(optimizer, moved=torch.optim.AdamW.step):
        if next(calls) == 6:
            with torch.no_grad():
                next(iter(stopped.trained.values())).add_(1.0)
            raise KeyboardInterrupt
        return moved(optimizer)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", broken)
        with pytest.raises(KeyboardInterrupt):
            taught(stopped, tokens, tmp_path / "b", plan)
    taught(resumed, tokens, tmp_path / "b", plan)
    for name, weight in straight.merged().items():
        assert torch.equal(resumed.merged()[name], weight)


class Second(several.OneProcess):
    """A process beside a main one that gives up after six steps."""

    writes = False

    def mains(self, number):
        return min(number, 6)


def test_learning_ends_when_it_ends_for_the_main_process(whole, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "processes", Second)
    done = taught(student_of(whole), tokens, tmp_path / "s", replace(PLAN, minutes=60.0))
    assert done.steps == 6 and not list(tmp_path.iterdir())


def test_all_processes_average_the_gradients_of_the_same_weights(whole, tokens, monkeypatch):
    averaged = []

    class OneOfTwo(several.OneProcess):
        count = 2

        def average(self, gradients):
            averaged.append(len(list(gradients)))

    model = load_model(resolve(str(whole)), dtype=torch.float32, device="cpu")
    # As an expert that reads no token of this process.
    model.register_parameter("spare", torch.nn.Parameter(torch.ones(3)))
    student = MODES["full"].beside(model, find_stack(model), KEPT, 4, 0)
    monkeypatch.setattr(lesson, "processes", OneOfTwo)
    taught_by = lesson.TaughtLesson(student, LiveTeacher(student), tokens, PLAN)
    lesson.few_steps(taught_by, 1, lambda done: 1e-3)
    assert averaged == [1, len(student.trained)]  # first the losses
    assert torch.equal(student.trained["spare"], torch.ones(3))


def test_a_loss_that_is_no_number_elsewhere_stops_all(whole, tokens, tmp_path, monkeypatch):
    class BesideOneThatDiverged(several.OneProcess):
        def average(self, gradients):
            for one in gradients:
                one += torch.nan

    monkeypatch.setattr(lesson, "processes", BesideOneThatDiverged)
    with pytest.raises(HealError, match="the loss became nan"):
        taught(student_of(whole), tokens, tmp_path / "s")


def test_a_sweep_takes_the_best_rate_and_begins_anew(whole, tokens, tmp_path):
    plan = replace(PLAN, learning_rate=1e-4, sweeps=True)
    done = taught(student_of(whole), tokens, tmp_path / "a", plan)
    tried = dict(done.tried)
    assert done.rate == min(tried, key=tried.get) == pytest.approx(4e-4)
    found = taught(student_of(whole), tokens, tmp_path / "b", replace(plan, sweeps=False))
    assert done.kl[0] == pytest.approx(found.kl[0], rel=0.02)


def test_learning_stops_where_watched_texts_get_worse(whole, tokens, tmp_path, monkeypatch):
    losses = iter([3.0, 2.5, 2.6, 2.7, 2.0])
    monkeypatch.setattr(watching, "floored_losses", lambda *_, **__: (np.array([next(losses)]), 0))
    student = student_of(whole)
    seen = []

    def note(done, total):
        seen.append({name: one.detach().clone() for name, one in student.trained.items()})

    done = taught(student, tokens, tmp_path / "s", replace(PLAN, watched=tokens[:2]), step=note)
    assert done.steps == 3 and [loss for _, loss in done.watched] == [3.0, 2.5, 2.6, 2.7]
    for name, weight in student.trained.items():
        assert torch.equal(weight, seen[0][name])  # the best: after the first step


def test_a_cache_is_read_by_the_ten_lines_of_its_page(whole, tokens, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "teacher-cache.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert len(code.strip().splitlines()) <= 12
    model = load_model(resolve(str(whole)), dtype=torch.float32, device="cpu")
    made = Predictions(tmp_path / "cache", tokens.shape, 20, {"model": "whole"})
    made.fill(model, tokens, tokens[:2], lambda done, total: None)
    names = {}
    exec(code, names)
    read = list(names["predictions"](tmp_path / "cache"))
    assert np.array_equal([row for row, _, _ in read], tokens)
    with torch.no_grad():
        whole_logs = model(torch.from_numpy(tokens)).logits.log_softmax(-1)
    wanted, ids = whole_logs.topk(20)
    np.testing.assert_allclose([logs for _, _, logs in read], wanted, atol=0.01)
    assert np.mean(np.array([row for _, row, _ in read]) == ids.numpy()) > 0.99


def test_thrift_and_a_watched_text_reach_the_record(whole, cut, text, tmp_path, monkeypatch):
    asked = HealRequest(
        str(cut),
        teacher=str(whole),
        text=str(text),
        calibration=str(text),
        mode="last",
        last=2,
        steps=2,
        batch=2,
        parts=2,
        recompute=True,
        dtype="bfloat16",
        watch=str(text),
        cross_entropy=0.5,
        device="cpu",
    )
    plan = heal_plan(replace(asked, minutes=60.0), output=tmp_path / "healed")
    assert (plan.steps, plan.tokens) == (2, 4 * plan.length) and plan.seconds > 0
    assert not list(tmp_path.iterdir())
    done = heal(asked, output=tmp_path / "healed")
    learning = done.part.learning
    assert learning.trained_parameters == plan.trained_parameters
    assert learning.watched[0].step == 0 and learning.text_first > 0 and learning.rates is None
    near = done.part.beside
    wrote = near.generation
    assert near.model == "full" and near.kl > 0 and 0 <= near.top1 <= 1
    assert wrote.prompts and wrote.compared == min(32, wrote.new_tokens)
    monkeypatch.setattr(teaching, "free_bytes", lambda device: 10)
    with pytest.raises(UserError, match=r"the teacher 'whole' takes .*B, and cpu has 10 B free"):
        heal(replace(asked, seed=1), output=tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["healed"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"last": 2}, "--mode last alone"),
        ({"parts": 9}, "more than the 8 sequences"),
        ({"dtype": "half"}, "unknown"),
        ({"cross_entropy": -1.0}, "negative"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(wrong, said):
    with pytest.raises(HealError, match=said):
        HealRequest("nowhere", mode="full", **wrong).check()


def test_a_teacher_of_another_vocabulary_is_one_line(whole, cut, text, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"vocab_size": 400', '"vocab_size": 401'))
    asked = HealRequest(str(cut), teacher=str(other), text=str(text), mode="full", steps=1)
    with pytest.raises(HealError, match="vocabulary of 401 tokens and 'cut' one of 400") as told:
        heal(asked, output=tmp_path / "healed")
    assert "\n" not in str(told.value) and not (tmp_path / "healed").exists()


def test_a_student_of_some_layers_has_no_other_weights(whole):
    student = student_of(whole, "last", layers=1)
    assert isinstance(student, Rewritten) and len(student.merged()) == len(student.trained) < 15
