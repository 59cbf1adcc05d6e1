"""A method that applies in float32 applies in 16 bits too, and what is no sum is seen as none."""

import pytest
import torch
from tests.rivals.tasks import gpt2, llama, make_task

from coterie.models.tolerance import tolerance
from coterie.rivals import RIVALS
from coterie.rivals.interface import DoesNotApply
from coterie.rivals.replace import _is_sum

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("name", RIVALS)
def test_a_method_that_applies_in_float32_applies_in_16_bits(name, dtype):
    task = make_task(llama().to(dtype), (1, 2))
    assert sorted(RIVALS[name].play(task).chosen) == [1, 2]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_map_is_folded_into_matrices_of_either_orientation(dtype):
    assert RIVALS["replace"].play(make_task(gpt2(5).to(dtype), (2,))).chosen[2]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_huge_coordinate_of_the_state_hides_no_missing_block(dtype):
    torch.manual_seed(0)
    state, block = torch.randn(64, 32).to(dtype), (0.2 * torch.randn(64, 32)).to(dtype)
    state[:, 3] = 5_000.0
    parts = (state.float(), block.float())
    assert _is_sum(*parts, (state + block).float(), dtype)
    assert not _is_sum(*parts, state.float(), dtype)
    assert not _is_sum(*parts, (state + 0.8 * block).float(), dtype)


def scaled(forward):
    """A layer that adds only a part of what its blocks give."""
    return lambda state, **named: state + 0.8 * (forward(state, **named) - state)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_block_whose_output_is_scaled_before_it_is_added_is_refused(dtype):
    model = llama(5)
    for layer in model.model.layers:
        layer.forward = scaled(layer.forward)
    with pytest.raises(DoesNotApply, match="does not end in one matrix"):
        RIVALS["replace"].play(make_task(model.to(dtype), (2,)))


def test_16_bits_are_allowed_more_than_32():
    fine, coarse = tolerance(torch.float32), tolerance(torch.float16)
    assert coarse == tolerance(torch.bfloat16)
    assert all(a > b > 0 for a, b in zip(vars(coarse).values(), vars(fine).values(), strict=True))
