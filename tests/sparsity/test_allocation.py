"""Allocations: totals met, bounds kept, order kept, and the formula against a direct optimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize

from coterie.sparsity.allocation import (
    SPREADS,
    allocate,
    importance_of,
    in_proportion,
    mean_of,
    scaled,
    to_pattern,
)
from coterie.sparsity.bounds import Bounds, SparsityError
from coterie.sparsity.search import Space, guided_allocation

FREE = Bounds(0.0, 1.0)


def drawn(rng, n=12):
    return rng.lognormal(sigma=1.5, size=n), rng.integers(50, 5000, size=n).astype(float)


@pytest.mark.parametrize("target", [0.0, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("spread", [*SPREADS, 5.0])
def test_the_total_is_met_and_the_bounds_are_kept(rng, target, spread):
    bounds = Bounds(0.0, 0.95)
    for _ in range(20):
        values, weights = drawn(rng)
        sparsity = allocate(
            importance_of(values, weights), weights, target, spread=spread, bounds=bounds
        )
        assert abs(mean_of(sparsity, weights) - target) < 1e-9
        assert sparsity.min() >= bounds.least and sparsity.max() <= bounds.most


def test_a_unit_that_contributes_more_per_weight_is_never_sparser(rng):
    values, weights = drawn(rng)
    sparsity = allocate(importance_of(values, weights), weights, 0.6, spread=0.2, bounds=FREE)
    assert (np.diff(sparsity[np.argsort(values / weights)]) <= 1e-12).all()
    even = np.full(12, 7.0)
    of_equal_size = allocate(importance_of(values, even), even, 0.6, spread=0.2, bounds=FREE)
    assert (np.diff(of_equal_size[np.argsort(values)]) <= 1e-12).all()


def test_the_formula_minimises_the_loss_it_was_derived_from(rng):
    values, weights = drawn(rng, 5)
    weights /= weights.sum()
    kappa = 4.0
    found = allocate(importance_of(values, weights), weights, 0.6, spread=1 / kappa, bounds=FREE)

    def loss(sparsity):
        return float(values @ np.exp(kappa * sparsity))

    direct = minimize(
        loss,
        np.full(5, 0.6),
        bounds=[(0, 1)] * 5,
        constraints={"type": "eq", "fun": lambda s: s @ weights - 0.6},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    inside = (found > 0) & (found < 1)
    assert loss(found) <= direct.fun * (1 + 1e-6) or not inside.all()
    np.testing.assert_allclose(found, direct.x, atol=2e-3)


def test_what_a_bound_cuts_off_goes_to_the_others():
    importance, weights = np.array([-10.0, 0.0, 0.0, 0.0]), np.ones(4)
    sparsity = allocate(importance, weights, 0.5, spread=1.0, bounds=Bounds(0.0, 0.8))
    np.testing.assert_allclose(sparsity, [0.8, 0.4, 0.4, 0.4])


def test_players_that_stay_count_as_the_most_important_and_nothing_is_negative():
    scores = importance_of(np.array([np.nan, 2.0, -1.0, 1.0]), np.ones(4))
    assert scores[0] == scores[1] == scores.max()
    assert scores[2] == scores.min() and np.isfinite(scores).all()
    with pytest.raises(SparsityError, match="uniform"):
        importance_of(np.array([-1.0, -2.0]), np.ones(2))


@pytest.mark.parametrize("target", [-0.1, 1.0, 1.5])
def test_a_target_outside_its_range_is_refused(target):
    with pytest.raises(SparsityError, match=r"\[0, 1\)"):
        Bounds().check(target)


def test_a_target_out_of_reach_names_the_reachable_range():
    with pytest.raises(SparsityError, match=r"0\.2 to 0\.6"):
        Bounds(0.2, 0.6).check(0.7)
    with pytest.raises(SparsityError, match="ordered"):
        Bounds(0.6, 0.2).check(0.5)


def test_owl_is_within_its_width_and_denser_where_outliers_are(rng):
    ratios, weights = rng.random(10), np.ones(10)
    sparsity = allocate(scaled(ratios), weights, 0.7, spread=0.08, bounds=FREE)
    scaled_ratios = 0.16 * (ratios - ratios.min()) / np.ptp(ratios)
    density = scaled_ratios - scaled_ratios.mean() + 0.3  # the formula as published
    np.testing.assert_allclose(sparsity, 1 - density)


@pytest.mark.parametrize("target", [0.3, 0.5, 0.7])
def test_keeping_in_proportion_meets_the_total(rng, target):
    bounds = Bounds(0.0, min(1.0, target + 0.1))
    for _ in range(20):
        scores, weights = drawn(rng)
        sparsity = in_proportion(scores, weights, target, bounds=bounds)
        assert abs(mean_of(sparsity, weights) - target) < 1e-9
        assert sparsity.min() >= -1e-12 and sparsity.max() <= bounds.most + 1e-12


def test_patterns_keep_the_total_to_half_a_step_and_the_order(rng):
    for _ in range(50):
        sparsity, weights = rng.uniform(0.2, 0.7, 16), np.full(16, 64.0)
        kept = to_pattern(sparsity, weights, 8)
        assert ((kept >= 1) & (kept <= 8)).all()
        assert abs((1 - kept / 8).mean() - sparsity.mean()) <= 0.5 / 8 / 16 + 1e-9
        assert (np.diff(kept[np.argsort(sparsity)]) <= 0).all()
    np.testing.assert_array_equal(to_pattern(np.full(3, 0.5), np.ones(3), 4), [2, 2, 2])


@pytest.mark.parametrize("bounds", [Bounds(0.3, 0.55), Bounds(0.0, 0.6), Bounds(0.45, 0.9)])
def test_patterns_stay_within_the_bounds_and_keep_the_total(rng, bounds):
    for _ in range(50):
        weights = rng.integers(1, 9, size=12).astype(float)
        middle = round((bounds.least + bounds.most) * 4) / 8
        sparsity = allocate(rng.normal(size=12), weights, middle, spread=0.1, bounds=bounds)
        steps = 8 - to_pattern(sparsity, weights, 8, bounds)
        assert bounds.least - 1e-6 <= steps.min() / 8 and steps.max() / 8 <= bounds.most + 1e-6
        assert abs(mean_of(steps / 8, weights) - middle) <= weights.max() / weights.sum() / 8
    np.testing.assert_array_equal(
        to_pattern(np.full(3, 0.51), np.ones(3), 4, Bounds(0.51, 0.52)), 2
    )


@pytest.mark.parametrize("of_small", [4.0, 0.25])
def test_guided_search_exchanges_weights_where_units_differ_in_size(of_small):
    """As with attention and feed-forward blocks; the loss is separable, so its least is known."""
    weights, cost = np.tile([1.0, 2.7], 8), np.tile([of_small, 1.0], 8)

    def loss(levels):
        return (cost * weights * np.exp(levels / 8)).sum(axis=-1)

    start, none = np.full((1, 16), 24, dtype=np.intp), np.zeros(16, dtype=np.intp)
    space = Space(weights, none, none + 38)
    rng = np.random.default_rng(0)
    found = guided_allocation(lambda levels, share: loss(levels), start, space, rng=rng, rounds=20)
    best = 40 * allocate(np.log(cost) / 5, weights, 0.6, spread=1.0, bounds=Bounds(0.0, 0.95))
    assert loss(found.levels) < loss(best) * 1.005
    assert found.levels @ weights == pytest.approx(24 * weights.sum(), abs=1.35)


def test_guided_search_finds_the_best_allocation_of_a_separable_loss():
    cost = np.array([8.0, 1.0, 4.0, 2.0, 1.0, 6.0])
    weights = np.ones(6)
    asked = []

    def judge(levels, share):
        asked.append(len(levels))
        return np.exp(levels / 5) @ cost

    start = np.full((1, 6), 20, dtype=np.intp)
    space = Space(weights, np.zeros(6, dtype=np.intp), np.full(6, 38, dtype=np.intp))
    found = guided_allocation(judge, start, space, rng=np.random.default_rng(0), rounds=40)
    best = 20 + 5 * (np.log(cost).mean() - np.log(cost))
    assert found.levels.sum() == 120 and np.abs(found.levels - best).max() <= 1.0
    assert (np.diff(found.account.history) < 0).all()
    assert found.account.candidates == sum(asked)
