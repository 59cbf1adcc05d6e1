"""The pruners against the definitions they implement, on matrices small enough to be solved."""

import itertools

import pytest
import torch
from torch import Tensor

from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.levels import Pattern, Statistics
from coterie.sparsity.masks import per_row, row_counts
from coterie.sparsity.pruners import PRUNERS, find_pruner
from coterie.sparsity.pruners.magnitude import Magnitude
from coterie.sparsity.pruners.sparsegpt import SparseGPT
from coterie.sparsity.pruners.wanda import Wanda


def problem(
    rows: int = 6, width: int = 16, seed: int = 0, *, inputs: int = 200
) -> tuple[Tensor, Tensor, Statistics]:
    """A weight, correlated inputs ``(inputs, width)`` of unlike sizes, and what is known."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    mixing.diagonal().add_(1)
    sizes = torch.randn(width, generator=generator, dtype=torch.float64).exp()
    given = torch.randn(inputs, width, generator=generator, dtype=torch.float64) @ mixing * sizes
    hessian = given.T @ given / inputs
    return weight, given, Statistics(inputs, hessian.diagonal(), hessian)


def error(weight: Tensor, new: Tensor, given: Tensor) -> float:
    return ((weight - new) @ given.T).square().sum().item()


def best_update(row: Tensor, gone: Tensor, hessian: Tensor) -> Tensor:
    """Least squares: the row with ``gone`` at zero whose output is nearest to the row's."""
    stay = ~gone
    new = torch.zeros_like(row)
    new[stay] = torch.linalg.solve(hessian[stay][:, stay], hessian[stay] @ row)
    return new


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.63, 0.9])
def test_wanda_is_its_definition(sparsity):
    weight, given, known = problem()
    counts = row_counts(sparsity, *weight.shape)
    scores = weight.abs() * given.norm(dim=0)
    new = Wanda().prune(weight, known, sparsity).weight
    for row in range(len(weight)):
        gone = sorted(range(weight.shape[1]), key=lambda j: scores[row, j].item())[: counts[row]]
        expected = weight[row].clone()
        expected[gone] = 0
        assert torch.equal(new[row], expected)


def test_magnitude_takes_the_smallest_of_the_map():
    weight, _, known = problem()
    new = Magnitude().prune(weight, known, 0.5).weight
    threshold = weight.abs().flatten().sort().values[weight.numel() // 2]
    assert torch.equal(new, torch.where(weight.abs() < threshold, 0, weight))


def test_wanda_with_equal_norms_is_magnitude_by_rows():
    weight, _, _ = problem()
    alike = Statistics(5, torch.full((16,), 3.0))
    expected = weight.masked_fill(per_row(weight.abs(), 0.5), 0)
    assert torch.equal(Wanda().prune(weight, alike, 0.5).weight, expected)


def test_rounding_is_within_one_weight_of_every_row_and_half_of_the_map():
    for sparsity, rows, width in itertools.product((0.1, 1 / 3, 0.5, 0.77), (1, 5, 8), (7, 16)):
        counts = row_counts(sparsity, rows, width)
        assert (counts - sparsity * width).abs().max() < 1
        assert abs(counts.sum().item() - sparsity * rows * width) <= 0.5


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_the_map_gets_the_zeros_it_was_allotted(name, sparsity):
    weight, _, known = problem(rows=7, width=30)
    zeros = (find_pruner(name).prune(weight, known, sparsity).weight == 0).sum().item()
    assert abs(zeros - sparsity * weight.numel()) <= 0.5


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("pattern", [Pattern(2, 4), Pattern(1, 4), Pattern(3, 8), Pattern(4, 8)])
def test_patterns_hold_in_every_group(name, pattern):
    weight, _, known = problem(width=16)
    new = find_pruner(name).prune(weight, known, pattern).weight
    kept = (new.reshape(-1, pattern.m) != 0).sum(1)
    assert (kept == pattern.n).all()


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("level", [0.0, Pattern(4, 4)])
def test_a_dense_level_changes_no_bit(name, level):
    weight, _, known = problem()
    assert torch.equal(find_pruner(name).prune(weight, known, level).weight, weight)


@pytest.mark.parametrize("name", PRUNERS)
def test_the_weight_that_is_given_stays_and_the_answer_comes_again(name):
    weight, _, known = problem()
    before = weight.clone()
    first = find_pruner(name).prune(weight, known, 0.5).weight
    assert torch.equal(weight, before)
    assert torch.equal(find_pruner(name).prune(weight, known, 0.5).weight, first)


def test_sparsegpt_removes_one_weight_as_the_closed_form_says():
    """Optimal brain surgeon: w - w_p / (H⁻¹)_pp · (H⁻¹)_p, for the first column of the sweep."""
    weight, _, known = problem(rows=1)
    weight[0, 0] = 1e-6  # so that it is the one that goes
    inverse = torch.linalg.inv(known.hessian)
    expected = weight[0] - weight[0, 0] / inverse[0, 0] * inverse[0]
    new = SparseGPT(damping=1e-12).prune(weight, known, 1 / 16).weight
    assert new[0, 0] == 0
    torch.testing.assert_close(new[0, 1:], expected[1:], rtol=1e-9, atol=1e-12)


def test_sparsegpt_is_least_squares_over_the_columns_to_the_right():
    """Removing a leading run of columns, the update is the exact least-squares solution."""
    weight, _, known = problem(rows=3)
    weight[:, :5] *= 1e-9  # they go, in every row
    new = SparseGPT(damping=1e-13).prune(weight, known, 5 / 16).weight
    gone = torch.arange(16) < 5
    for row in range(3):
        expected = best_update(weight[row], gone, known.hessian)
        torch.testing.assert_close(new[row], expected, rtol=1e-6, atol=1e-9)


def test_sparsegpt_follows_the_direct_solution_column_by_column():
    """The sweep against its definition: after each column, least squares over the rest."""
    weight, _, known = problem(rows=4, width=8)
    pruner = SparseGPT(damping=1e-13, mask_columns=4)
    new = pruner.prune(weight, known, 0.5).weight
    for row in range(4):
        work = weight[row].clone()
        for column in range(8):
            if new[row, column] != 0:
                continue
            inverse = torch.linalg.inv(known.hessian[column:, column:])
            work[column:] -= work[column] / inverse[0, 0] * inverse[0]
            work[column] = 0
        torch.testing.assert_close(new[row], work, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("level", [0.5, 0.7, Pattern(2, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_sparsegpt_leaves_less_error_than_wanda_and_magnitude(level, seed):
    weight, given, known = problem(rows=24, width=64, seed=seed)
    errors = {
        name: error(weight, pruner.prune(weight, known, level).weight, given)
        for name, pruner in PRUNERS.items()
    }
    assert errors["sparsegpt"] < errors["wanda"]
    assert errors["sparsegpt"] < errors["magnitude"]


def test_no_update_beats_least_squares_on_the_same_zeros():
    weight, given, known = problem()
    new = SparseGPT(damping=1e-12).prune(weight, known, 0.5).weight
    best = torch.stack(
        [best_update(row, kept == 0, known.hessian) for row, kept in zip(weight, new, strict=True)]
    )
    kept_as_they_are = torch.where(new == 0, 0, weight)
    assert error(weight, best, given) <= error(weight, new, given) * (1 + 1e-9)
    assert error(weight, new, given) < error(weight, kept_as_they_are, given)


@pytest.mark.parametrize("level", [0.5, Pattern(2, 4), Pattern(4, 6)])
def test_the_lazy_blocks_change_nothing(level):
    weight, _, known = problem(rows=5, width=36)
    results = [
        SparseGPT(mask_columns=12, lazy_columns=lazy).prune(weight, known, level).weight
        for lazy in (1, 2, 3, 4, 5, 6, 12, 24, 36, 128)
    ]
    for result in results[1:]:
        assert torch.equal(result == 0, results[0] == 0)
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-11)


def test_an_input_that_is_always_zero_loses_its_weights_first():
    weight, given, _ = problem()
    given[:, 3] = 0
    hessian = given.T @ given / len(given)
    known = Statistics(len(given), hessian.diagonal(), hessian)
    for name in ("wanda", "sparsegpt"):
        new = find_pruner(name).prune(weight, known, 0.5).weight
        assert (new[:, 3] == 0).all() and new.isfinite().all()


def test_damping_is_raised_until_there_is_a_factor_and_told():
    weight, _, known = problem()
    assert SparseGPT().prune(weight, known, 0.5).damping == 0.01
    bad = known.hessian - 0.05 * known.hessian.diagonal().mean() * torch.eye(16)
    lowest = torch.linalg.eigvalsh(bad)[0] / bad.diagonal().mean()
    damping = SparseGPT().prune(weight, Statistics(9, bad.diagonal(), bad), 0.5).damping
    assert damping is not None and damping >= -lowest
    hopeless = torch.full((16, 16), -5.0).fill_diagonal_(1.0)
    with pytest.raises(SparsityError, match="damping of 1 of its mean diagonal"):
        SparseGPT().prune(weight, Statistics(9, hopeless.diagonal(), hopeless), 0.5)


@pytest.mark.parametrize("name", PRUNERS)
def test_a_map_that_saw_no_input_is_pruned_all_the_same(name):
    weight, _, _ = problem()
    new = find_pruner(name).prune(weight, Statistics(), 0.5).weight
    assert (new == 0).sum() == weight.numel() // 2
    assert torch.equal(new[new != 0], weight[new != 0])


def test_sixteen_bit_weights_that_stay_are_not_changed():
    weight, _, known = problem()
    half = weight.bfloat16()
    for name in ("magnitude", "wanda"):
        new = find_pruner(name).prune(half, known, 0.5).weight
        assert new.dtype == torch.bfloat16
        assert torch.equal(new[new != 0], half[new != 0])
    assert SparseGPT().prune(half, known, 0.5).weight.dtype == torch.bfloat16


def test_patterns_are_read_and_refused():
    assert Pattern.parse("2:4") == Pattern(2, 4) and str(Pattern(2, 4)) == "2:4"
    for text in ("2", "2:", "5:4", "0:4", "a:b", "-1:4"):
        with pytest.raises(SparsityError, match=r"N:M|N of M"):
            Pattern.parse(text)
    with pytest.raises(SparsityError, match="magnitude, wanda, sparsegpt"):
        find_pruner("lottery")
