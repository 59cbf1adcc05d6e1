"""Interactions, checked against the definition, shapiq, and games whose pairs are known."""

import numpy as np
import pytest
import shapiq

from coterie.game import toy
from coterie.game.coalitions import observe_all
from coterie.game.designs import draw_strata, enumerate_all
from coterie.game.estimation.interactions import (
    every_size,
    exact_interactions,
    interactions_from,
    sampled_interactions,
)
from coterie.game.estimation.refits import Sample, refit
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.utilities import log_loss

N = 6


def test_agrees_with_shapiq(rng):
    game = toy.random_table(N, rng=rng)
    found = exact_interactions(game.value(enumerate_all(N)), N)
    computer = shapiq.ExactComputer(lambda c: game.value(np.asarray(c, bool)), n_players=N)
    theirs = computer("SII", order=2)
    for i, j in zip(*np.triu_indices(N, 1), strict=True):
        assert found.values[i, j] == pytest.approx(theirs[(i, j)])
        assert found.values[j, i] == found.values[i, j]
    assert (np.diagonal(found.values) == 0).all()


def test_gloves_of_one_hand_stand_in_for_each_other_and_those_of_two_need_each_other():
    values = exact_interactions(toy.glove(2, 2).value(enumerate_all(4)), 4).values
    assert values[0, 1] < 0
    assert values[0, 2] > 0


def test_bases_of_every_size_give_the_shapley_interaction(rng):
    game = toy.random_table(N, rng=rng)
    expected = exact_interactions(game.value(enumerate_all(N)), N).values
    whole = sampled_interactions(game.value, every_size(N, 9_999, rng=rng))
    np.testing.assert_allclose(whole.values, expected, atol=1e-12)
    np.testing.assert_array_equal(whole.error_sampling, 0)


def test_sampled_interactions_are_unbiased_and_as_far_off_as_they_say():
    game = toy.random_table(N, rng=np.random.default_rng(3))
    expected = exact_interactions(game.value(enumerate_all(N)), N).values
    rngs = np.random.default_rng(4).spawn(300)
    runs = [sampled_interactions(game.value, every_size(N, 42, rng=rng)) for rng in rngs]
    pairs = np.triu_indices(N, 1)
    values = np.array([run.values[pairs] for run in runs])
    told = np.mean([run.error_sampling[pairs] ** 2 for run in runs], axis=0)
    assert (np.abs(values.mean(axis=0) - expected[pairs]) < 4 * np.sqrt(told / 300)).all()
    assert 0.85 < np.median(values.var(axis=0) / told) < 1.15


def test_a_surrogate_that_is_right_knows_the_pairs(rng):
    game = toy.random_pairwise(8, rng=rng)
    strata = draw_strata(8, (7, 6, 5, 4), 9_999, rng=rng)
    table = observe_all(game, np.concatenate([s.coalitions for s in strata])).nll
    sample = Sample(strata, table, np.zeros(1), np.zeros(1, int), log_loss)
    fits = refit(sample, Pairwise(), replicates=4, rng=rng)
    found = interactions_from(fits, strata)
    expected = exact_interactions(game.value(enumerate_all(8)), 8).values
    np.testing.assert_allclose(found.values, expected, atol=0.02)
    assert found.error_texts is None


def test_locked_players_have_no_interaction(rng):
    locked = np.array([2])
    game = toy.random_table(N, rng=rng)

    def watched(coalitions):
        assert coalitions[:, 2].all()
        return game.value(coalitions)

    found = sampled_interactions(watched, every_size(N, 99, locked=locked, rng=rng), locked)
    assert np.isnan(found.values[2]).all()
    assert np.isnan(found.values[:, 2]).all()
    inner = toy.game_of(5, lambda c: game.value(np.insert(c, 2, True, axis=1)))
    expected = exact_interactions(inner.value(enumerate_all(5)), 5).values
    free = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(found.values[np.ix_(free, free)], expected, atol=1e-12)
