"""Regression, windows and control variates: Shapley values by three other roads."""

import numpy as np
import pytest

from coterie.game import toy
from coterie.game.designs import draw_strata, enumerate_all
from coterie.game.estimation.controlled import controlled_semivalue, controlled_shapley, least_asked
from coterie.game.estimation.interactions import every_size
from coterie.game.estimation.regression import kernel_masses, kernel_shapley, sliding_window_shapley
from coterie.game.estimation.sampling import stratified_semivalue
from coterie.game.estimation.semivalues import exact, shapley, stratified
from coterie.game.surrogates.pairwise import Pairwise

N = 8


def truth(game, semivalue):
    return exact(game.value(enumerate_all(game.n_players)), semivalue).values


@pytest.mark.parametrize("n_players", [4, 5, 8])
def test_regression_on_everything_is_exact(n_players, rng):
    game = toy.random_table(n_players, rng=rng)
    found = kernel_shapley(game.value, n_players, draws=9_999, rng=rng)
    np.testing.assert_allclose(found.values, truth(game, shapley(n_players)))
    np.testing.assert_allclose(found.error_sampling, 0, atol=1e-12)
    assert kernel_masses(n_players).sum() == pytest.approx(1)


def test_regression_solves_a_pairwise_game_from_few_pairs(rng):
    """Complements cancel every pair effect: no other unbiased estimator is as quick."""
    game = toy.random_pairwise(12, rng=rng)
    found = kernel_shapley(game.value, 12, draws=40, rng=rng)
    np.testing.assert_allclose(found.values, truth(game, shapley(12)))


def test_regression_is_nearly_unbiased_and_its_intervals_nearly_cover():
    game = toy.random_table(10, rng=np.random.default_rng(5))
    expected = truth(game, shapley(10))
    rngs = np.random.default_rng(6).spawn(400)
    runs = [kernel_shapley(game.value, 10, draws=150, rng=rng) for rng in rngs]
    values = np.array([run.values for run in runs])
    assert (np.abs(values.mean(axis=0) - expected) < 0.15 * values.std(axis=0)).all()
    ends = np.array([run.interval() for run in runs])
    assert 0.92 < np.mean((ends[:, 0] <= expected) & (expected <= ends[:, 1])) < 0.98
    np.testing.assert_allclose(values.sum(axis=1), expected.sum())


def test_a_window_over_everyone_is_shapley(rng):
    game = toy.random_table(N, rng=rng)
    found = sliding_window_shapley(game.value, N, window=N)
    np.testing.assert_allclose(found.values, truth(game, shapley(N)))


def test_a_window_sees_its_neighbours_only(rng):
    game = toy.random_pairwise(N, rng=rng)
    locked = np.array([0])
    found = sliding_window_shapley(game.value, N, window=3, locked=locked)
    assert np.isnan(found.values[0])
    around = [(0, 0), (3, 2)]
    inner = toy.game_of(3, lambda c: game.value(np.pad(c, around, constant_values=True)))
    assert found.values[4] == pytest.approx(truth(inner, shapley(3))[1])


def test_windows_overlap_and_ask_less_than_each_alone(rng):
    asked = []
    game = toy.layer_like(20, rng=rng)

    def counted(coalitions):
        asked.append(len(coalitions))
        return game.value(coalitions)

    sliding_window_shapley(counted, 20, window=5)
    assert sum(asked) < 20 * 2**4


def test_bases_of_every_size_give_shapley_values(rng):
    game = toy.random_table(N, rng=rng)
    found = stratified_semivalue(game.value, every_size(N, 9_999, rng=rng))
    np.testing.assert_allclose(found.values, truth(game, shapley(N)))


def test_a_controlled_estimate_of_everything_is_exact(rng):
    game = toy.random_table(N, rng=rng)
    strata = draw_strata(N, (6, 4), 9_999, rng=rng)
    found = controlled_semivalue(game.value, strata, Pairwise(), rng=rng)
    np.testing.assert_allclose(found.values, truth(game, stratified(N, (6, 4))))
    np.testing.assert_allclose(found.error_sampling, 0, atol=1e-12)


@pytest.mark.parametrize("kind", ["table", "layers"])
def test_a_controlled_estimate_is_unbiased_whatever_the_surrogate(kind):
    rng = np.random.default_rng(7)
    game = toy.random_table(N, rng=rng) if kind == "table" else toy.layer_like(N, rng=rng)
    expected = truth(game, stratified(N, (6, 4)))
    plain, steadied = [], []
    for child in np.random.default_rng(8).spawn(300):
        strata = draw_strata(N, (6, 4), 32, rng=child)
        plain.append(stratified_semivalue(game.value, strata))
        steadied.append(controlled_semivalue(game.value, strata, Pairwise(), rng=child))
    values = np.array([run.values for run in steadied])
    deviation = values.std(axis=0)
    assert (np.abs(values.mean(axis=0) - expected) < 4 * deviation / np.sqrt(300)).all()
    told = np.sqrt(np.mean([run.error_sampling**2 for run in steadied], axis=0))
    assert 0.75 < np.median(told / deviation) < 1.35
    if kind == "layers":  # where pairs explain nearly everything, nearly all noise goes
        assert np.median(deviation / np.std([run.values for run in plain], axis=0)) < 0.5


@pytest.mark.parametrize("kind", ["table", "layers"])
def test_control_is_unbiased_for_shapley_and_knows_its_error(kind):
    rng = np.random.default_rng(17)
    game = toy.random_table(N, rng=rng) if kind == "table" else toy.layer_like(N, rng=rng)
    expected = truth(game, shapley(N))
    runs = [
        controlled_shapley(game.value, N, asked=least_asked(N), rng=child)
        for child in np.random.default_rng(18).spawn(200)
    ]
    values = np.array([run.values for run in runs])
    deviation = values.std(axis=0)
    assert (np.abs(values.mean(axis=0) - expected) < 4 * deviation / np.sqrt(200)).all()
    told = np.sqrt(np.mean([run.error_sampling**2 for run in runs], axis=0))
    assert 0.7 < np.median(told / deviation) < 1.4


def test_control_is_exact_where_players_and_pairs_explain_the_game_and_keeps_the_locked(rng):
    game, locked = toy.random_pairwise(14, rng=rng), np.array([0, 5])
    found = controlled_shapley(game.value, 14, asked=2_000, locked=locked, rng=rng)
    again = controlled_shapley(game.value, 14, asked=1_000, locked=locked, rng=rng)
    assert np.isnan(found.values[locked]).all() and np.isfinite(found.values).sum() == 12
    free = np.setdiff1d(np.arange(14), locked)
    np.testing.assert_allclose(found.values[free], again.values[free], atol=1e-3)


def test_too_few_bases_for_folds_are_refused(rng):
    strata = draw_strata(N, (6, 4), 6, rng=rng)
    with pytest.raises(ValueError, match="draw at least 4"):
        controlled_semivalue(toy.majority(N).value, strata, Pairwise(), rng=rng)
