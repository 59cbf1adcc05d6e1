"""A teacher asked once teaches what it would teach every time, or a lower bound of it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.after_cut.conftest import KEPT
from tests.tiny import save_text, words
from torch.nn.functional import log_softmax

from coterie.errors import StudyMismatch, UserError
from coterie.healing import teacher_cache as predictions
from coterie.healing.checkpoint import Checkpoint
from coterie.healing.distill import learn
from coterie.healing.lesson import TrainingPlan
from coterie.healing.moved import Plain, Rewritten
from coterie.healing.origin import HealError
from coterie.healing.several import OneProcess
from coterie.healing.students import Adapted
from coterie.healing.teacher_cache import Predictions, most_likely
from coterie.healing.teachers import LiveTeacher, Targets
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.verbs.after_cut import teaching as heal_teaching
from coterie.verbs.after_cut.heal import admit, heal
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.shared.progress import NoProgress

VOCABULARY = 400
PLAN = TrainingPlan(steps=8, batch=4, learning_rate=5e-3)


@pytest.fixture
def tokens(rng):
    return rng.integers(0, VOCABULARY, size=(8, 16))


@pytest.fixture
def asked(cut, whole, text):
    """A healing with a cache beside the texts, but for the folder of it."""
    return HealRequest(
        str(cut),
        teacher=str(whole),
        text=str(text),
        calibration=str(text),
        mode="full",
        steps=2,
        batch=2,
        device="cpu",
    )


def plain(folder):
    return load_model(resolve(str(folder)), dtype=torch.float32, device="cpu")


def filled(folder, whole, tokens, top=256):
    # In full precision: what is compared here are the same numbers.
    made = Predictions(folder, tokens.shape, top, {"model": "whole"}, torch.float32)
    made.fill(plain(whole), tokens, tokens[:2], lambda done, total: None)
    return made


def losses(state):
    with safe_open(state, framework="pt") as file:
        return json.loads(file.metadata()["state"])["losses"]


@pytest.mark.parametrize("top", [VOCABULARY, VOCABULARY - 1], ids=["whole", "all but one"])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_with_the_whole_vocabulary_it_teaches_step_for_step_the_same(
    mode, top, whole, cut, tokens, tmp_path, monkeypatch
):
    if mode == "lora":
        pytest.importorskip("peft", reason="peft is not installed")
    monkeypatch.setattr(predictions, "FORWARD_TOKENS", 48)  # three sequences to a file
    # A rest of one token is that token: the bucket is then no approximation either.
    monkeypatch.setattr(predictions, "fits_whole", lambda vocabulary, top: vocabulary <= top)
    beside, alone = plain(whole), plain(cut)
    stack, own = find_stack(beside), find_stack(alone)
    first = (
        Rewritten(beside, stack, KEPT)
        if mode == "full"
        else Adapted(beside, stack, KEPT, rank=4, seed=0)
    )
    second = (
        Plain(alone, own)
        if mode == "full"
        else Adapted(alone, own, range(own.n_players), rank=4, seed=0)
    )
    teacher = filled(tmp_path / "cache", whole, tokens, top)
    assert len(teacher.files) == 3 and (teacher.rest() is None) == (top == VOCABULARY)
    learn(
        first,
        LiveTeacher(first),
        tokens,
        PLAN,
        checkpoint=Checkpoint(tmp_path / "a.safetensors", {}),
    )
    learn(second, teacher, tokens, PLAN, checkpoint=Checkpoint(tmp_path / "b.safetensors", {}))
    told, read = losses(tmp_path / "a.safetensors"), losses(tmp_path / "b.safetensors")
    assert told[-1] < told[0]
    np.testing.assert_allclose(read, told, rtol=2e-4)


def test_fewer_tokens_never_raise_the_divergence():
    torch.manual_seed(0)
    theirs, mine = 3 * torch.randn(2, 5, 50), 3 * torch.randn(2, 5, 50)
    log_probs = log_softmax(theirs, dim=-1)
    whole = Targets(log_probs.flatten(0, 1)).divergence(mine)
    bounds = []
    for top in (1, 2, 4, 8, 16, 24):
        kept = {name: one.flatten(0, 1) for name, one in most_likely(log_probs, top).items()}
        assert torch.allclose(
            kept["log_probs"].exp().sum(-1) + kept["rest"].exp().squeeze(-1), torch.ones(10)
        )
        targets = Targets(kept["log_probs"], kept["ids"].long(), kept["rest"])
        bounds.append(targets.divergence(mine).item())
        assert targets.divergence(theirs).item() == pytest.approx(0, abs=1e-6)
    assert bounds == sorted(bounds) and bounds[0] > 0 and bounds[-1] <= whole.item()


def test_a_row_is_read_from_its_file(whole, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "FORWARD_TOKENS", 48)
    teacher = filled(tmp_path / "cache", whole, tokens, top=20)
    rows = np.array([7, 0, 4])
    batch = torch.from_numpy(tokens[rows])
    targets = teacher.targets(rows, batch)
    with torch.no_grad():
        log_probs = log_softmax(plain(whole)(batch).logits, dim=-1).flatten(0, 1)
    assert targets.log_probs.shape == targets.ids.shape == (48, 20)
    torch.testing.assert_close(targets.log_probs, log_probs.gather(-1, targets.ids))
    torch.testing.assert_close(targets.log_probs, log_probs.topk(20).values)


def test_a_caching_that_was_stopped_goes_on(whole, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "FORWARD_TOKENS", 32)
    straight = filled(tmp_path / "straight", whole, tokens)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    model, broken = plain(whole), Predictions(
        tmp_path / "broken", tokens.shape, 256, {"model": "whole"}, torch.float32
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        broken.fill(model, tokens, tokens[:2], stop)
    assert not broken.complete
    times = {file: file.stat().st_mtime_ns for file in broken.files if file.is_file()}
    assert len(times) == 2
    broken.check()
    broken.fill(model, tokens, tokens[:2], lambda done, total: None)
    assert broken.complete
    assert times == {file: file.stat().st_mtime_ns for file in times}
    for one, other in zip(broken.files, straight.files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_only_the_cut_model_is_needed_once_the_teacher_was_asked(asked, tmp_path, monkeypatch):
    request = replace(asked, teacher_cache=str(tmp_path / "cache"), teacher_top=32)
    live = heal(asked, output=tmp_path / "live").part.as_json()
    part = heal(request, output=tmp_path / "healed").part.as_json()
    assert part["learning"]["cache"]["top"] == 32
    assert 0 < part["learning"]["cache"]["rest"] < 1
    assert part["learning"]["kl_first"] < live["learning"]["kl_first"]
    assert part["full"] == live["full"]
    assert str(tmp_path) not in (tmp_path / "healed" / "coterie.json").read_text()
    load, loaded = heal_teaching.load_model, []

    def watched(source, **options):
        loaded.append(source.name)
        return load(source, **options)

    monkeypatch.setattr(heal_teaching, "load_model", watched)
    heal(replace(request, learning_rate=1e-4), output=tmp_path / "again")
    assert loaded == ["cut"]


def test_of_several_processes_the_main_one_alone_asks_the_teacher(asked, tmp_path, monkeypatch):
    events, fill = [], Predictions.fill

    def noted(*given):
        events.append("fill")
        fill(*given)

    class Main(OneProcess):
        def wait(self):
            events.append("wait")

    class Beside(Main):
        writes = False

        def wait(self):
            super().wait()
            if events.count("wait") == 4:  # the main one has filled what both read
                shutil.copytree(tmp_path / "main", tmp_path / "beside")

    monkeypatch.setattr(Predictions, "fill", noted)
    for name, group in (("main", Main()), ("beside", Beside())):
        job = admit(replace(asked, teacher_cache=str(tmp_path / name)), NoProgress())
        monkeypatch.setattr(heal_teaching, "processes", lambda group=group: group)
        heal_teaching.open_student_and_teacher(job, torch.device("cpu"), NoProgress())
    assert events == ["wait", "fill", "wait", "wait", "wait"]


def test_a_cache_of_something_else_is_refused(asked, cut, tmp_path):
    place = tmp_path / "cache"
    request = replace(asked, teacher_cache=str(place), teacher_top=8)
    heal(request, output=tmp_path / "healed")
    other = save_text(tmp_path / "other.txt", words(30)[24:])
    for changed, said in (
        ({"text": str(other)}, "text_sha256"),
        ({"seed": 3}, "text_sha256"),
        ({"teacher_top": 9}, "top = 8, not 9"),
        ({"teacher_cache": str(tmp_path / "healed")}, "no predictions"),
        ({"teacher_cache": str(tmp_path / "out" / "in")}, "overlaps the folder of --output"),
        ({"teacher_cache": str(cut)}, "overlaps the folder of the model"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            heal(replace(request, **changed), output=tmp_path / "out")
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "out").exists()


def test_a_file_of_a_cache_that_was_cut_off_is_told(whole, tokens, tmp_path):
    made = filled(tmp_path, whole, tokens)
    file = made.files[-1]
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=f"{file.name}, which was cut off or changed: delete"):
        made.check()


def test_a_cache_of_another_model_is_refused(whole, tokens, tmp_path):
    filled(tmp_path / "cache", whole, tokens)
    other = Predictions(tmp_path / "cache", tokens.shape, 256, {"model": "another"})
    with pytest.raises(StudyMismatch, match="model = whole, not another"):
        other.check()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"teacher_top": 8}, "--teacher-cache DIR"),
        ({"teacher_cache": "here", "seams": 1.0}, "hidden states"),
        ({"teacher_cache": "here", "teacher_top": 0}, "above zero"),
    ],
)
def test_what_a_cache_cannot_do_is_told_before_anything_is_loaded(wrong, said):
    with pytest.raises(HealError, match=said):
        HealRequest("nowhere", mode="full", **wrong).check()
