"""What learns is float32 whatever the model is in: 16 bits round small steps away."""

from dataclasses import replace

import pytest
import torch
from tests.after_cut.conftest import KEPT

from coterie.healing.checkpoint import Checkpoint
from coterie.healing.distill import learn
from coterie.healing.lesson import TrainingPlan
from coterie.healing.modes import MODES
from coterie.healing.teachers import LiveTeacher
from coterie.healing.write import write_healed
from coterie.models.files.sources import resolve
from coterie.models.files.tensors import read_tensors
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack

PLAN = TrainingPlan(steps=3, batch=2, learning_rate=1e-5)
"""Steps of which bfloat16 would round most away."""


@pytest.mark.parametrize("mode", ["lora", "full", "gaps", "last"])
def test_on_a_model_of_16_bits_small_steps_move_every_weight(mode, whole, cut, rng, tmp_path):
    model = load_model(resolve(str(whole)), dtype=torch.bfloat16, device="cpu")
    before = {name: one.clone() for name, one in model.named_parameters()}
    student = MODES[mode].beside(model, find_stack(model), KEPT, 4, 0)
    assert {one.dtype for one in student.trained.values()} == {torch.float32}
    began = {name: one.detach().clone() for name, one in student.trained.items()}
    tokens = rng.integers(0, 400, size=(4, 16))
    learn(
        student, LiveTeacher(student), tokens, PLAN, checkpoint=Checkpoint(tmp_path / "state", {})
    )
    for name, one in student.trained.items():
        moved = (one != began[name]).float().mean()
        # Rows of tokens that are in no batch stay where they are.
        assert one.dtype == torch.float32 and moved > (0 if "embed" in name else 0.9), name
    for name, one in model.named_parameters():
        own = name.replace(".base_layer", "")
        assert own not in before or torch.equal(one, before[own])
    (tmp_path / "out").mkdir()
    write_healed(resolve(str(cut)), student.merged(), student.stack.path, KEPT, tmp_path / "out")
    written = read_tensors(tmp_path / "out" / "model.safetensors")
    assert {one.dtype for one in written.values()} == {torch.bfloat16}


def test_a_stopped_run_goes_on_where_a_weight_had_no_gradient(whole, rng, tmp_path):
    tokens = rng.integers(0, 400, size=(4, 16))
    plan = replace(PLAN, steps=6, learning_rate=1e-3)

    def taught(path, step=lambda done, total: None):
        model = load_model(resolve(str(whole)), dtype=torch.float32, device="cpu")
        # As a bias of a router, which only feeds the indices of the experts.
        model.register_parameter("spare", torch.nn.Parameter(torch.ones(3)))
        student = MODES["full"].beside(model, find_stack(model), KEPT, 4, 0)
        learn(
            student, LiveTeacher(student), tokens, plan, checkpoint=Checkpoint(path, {}), step=step
        )
        return student.merged()

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    straight = taught(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        taught(tmp_path / "b", stop)
    resumed = taught(tmp_path / "b")
    assert torch.equal(resumed["spare"], torch.ones(3))
    for name, one in straight.items():
        assert torch.equal(resumed[name], one)
