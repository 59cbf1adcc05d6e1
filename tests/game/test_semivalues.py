"""Estimates, checked against the definition, the axioms, their own errors and shapiq."""

from itertools import permutations
from math import factorial

import numpy as np
import pytest
import shapiq

from coterie.game import toy
from coterie.game.designs import draw_strata, enumerate_all
from coterie.game.estimation.sampling import permutation_shapley, sampled, stratified_semivalue
from coterie.game.estimation.semivalues import banzhaf, exact, shapley, stratified

N = 6
BASES = (5, 3)
SEMIVALUES = [shapley(N), banzhaf(N), stratified(N, BASES)]
EVERYTHING = enumerate_all(N)


def truth(game, semivalue):
    return exact(game.value(enumerate_all(game.n_players)), semivalue).values


def by_definition(game, name):
    """Each semivalue from its own textbook sentence."""
    index = 1 << np.arange(N)
    table = game.value(EVERYTHING)
    if name == "Shapley":
        total = np.zeros(N)
        for order in permutations(range(N)):
            held = 0
            for player in order:
                total[player] += table[held | 1 << player] - table[held]
                held |= 1 << player
        return total / factorial(N)
    kept = EVERYTHING @ index
    gains = np.stack([table[kept | bit] - table[kept & ~bit] for bit in index], axis=1)
    if name == "Banzhaf":
        return gains.mean(axis=0)
    held = EVERYTHING.sum(axis=1)
    return np.mean([gains[held == size].mean(axis=0) for size in BASES], axis=0)


@pytest.mark.parametrize("semivalue", SEMIVALUES, ids=lambda s: s.name)
def test_exact_values_are_the_definition(semivalue, rng):
    game = toy.random_table(N, rng=rng)
    np.testing.assert_allclose(truth(game, semivalue), by_definition(game, semivalue.name))
    assert semivalue.weights.sum() == pytest.approx(1)


def test_agrees_with_shapiq(rng):
    game = toy.random_table(N, rng=rng)
    for index, semivalue in (("SV", shapley(N)), ("BV", banzhaf(N))):
        computer = shapiq.ExactComputer(lambda c: game.value(np.asarray(c, bool)), n_players=N)
        expected = computer(index)
        theirs = [expected[(player,)] for player in range(N)]
        np.testing.assert_allclose(truth(game, semivalue), theirs)


def test_shapley_values_share_out_the_whole(rng):
    game = toy.random_table(N, rng=rng)
    ends = game.value(np.array([[True] * N, [False] * N]))
    assert truth(game, shapley(N)).sum() == pytest.approx(ends[0] - ends[1])
    orders = permutation_shapley(game.value, N, draws=5, rng=rng)
    assert orders.values.sum() == pytest.approx(ends[0] - ends[1])


def test_those_who_are_alike_get_alike():
    np.testing.assert_allclose(truth(toy.majority(N), shapley(N)), 1 / N)
    gloves = truth(toy.glove(2, 4), shapley(N))
    np.testing.assert_allclose(gloves[:2], gloves[0])
    np.testing.assert_allclose(gloves[2:], gloves[-1])


@pytest.mark.parametrize("semivalue", SEMIVALUES, ids=lambda s: s.name)
def test_who_changes_nothing_gets_nothing(semivalue, rng):
    found = truth(toy.unanimity(N, np.array([1, 4])), semivalue)
    np.testing.assert_allclose(found[[0, 2, 3, 5]], 0, atol=1e-12)
    assert (found[[1, 4]] > 0).all()


@pytest.mark.parametrize("semivalue", SEMIVALUES, ids=lambda s: s.name)
def test_values_of_a_sum_are_the_sum_of_values(semivalue, rng):
    one, other = toy.random_table(N, rng=rng), toy.random_table(N, rng=rng)
    both = toy.game_of(N, lambda c: 2 * one.value(c) - 3 * other.value(c))
    expected = 2 * truth(one, semivalue) - 3 * truth(other, semivalue)
    np.testing.assert_allclose(truth(both, semivalue), expected)


@pytest.mark.parametrize("semivalue", SEMIVALUES, ids=lambda s: s.name)
def test_an_additive_game_is_solved_without_error(semivalue, rng):
    worth = np.array([3.0, -1.0, 0.0, 0.5, 2.0, 0.0])
    game = toy.additive(worth)
    found = sampled(game.value, N, semivalue, draws=2, rng=rng)
    np.testing.assert_allclose(found.values, worth)
    np.testing.assert_allclose(found.error_sampling, 0, atol=1e-12)


@pytest.mark.parametrize("semivalue", SEMIVALUES, ids=lambda s: s.name)
def test_drawing_everything_is_exact(semivalue, rng):
    game = toy.random_table(N, rng=rng)
    found = sampled(game.value, N, semivalue, draws=99, rng=rng)
    np.testing.assert_allclose(found.values, truth(game, semivalue))
    np.testing.assert_array_equal(found.error_sampling, 0)
    low, high = found.interval()
    np.testing.assert_array_equal(low, high)


def test_base_coalitions_in_full_are_exact(rng):
    game = toy.random_table(N, rng=rng)
    found = stratified_semivalue(game.value, draw_strata(N, BASES, 99, rng=rng))
    np.testing.assert_allclose(found.values, truth(game, stratified(N, BASES)))


ESTIMATORS = {
    "Shapley by strata": lambda game, rng: sampled(game.value, 8, shapley(8), draws=6, rng=rng),
    "Banzhaf by strata": lambda game, rng: sampled(game.value, 8, banzhaf(8), draws=6, rng=rng),
    "Shapley by orders": lambda game, rng: permutation_shapley(game.value, 8, draws=12, rng=rng),
    "stratified semivalue": lambda game, rng: stratified_semivalue(
        game.value, draw_strata(8, (6, 4), 36, rng=rng)
    ),
}
TRUTHS = {
    "Shapley by strata": shapley(8),
    "Banzhaf by strata": banzhaf(8),
    "Shapley by orders": shapley(8),
    "stratified semivalue": stratified(8, (6, 4)),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_are_unbiased_and_their_intervals_cover(name):
    game = toy.random_table(8, rng=np.random.default_rng(5))
    expected = truth(game, TRUTHS[name])
    runs = [ESTIMATORS[name](game, rng) for rng in np.random.default_rng(11).spawn(2_000)]
    values = np.array([run.values for run in runs])
    bias = values.mean(axis=0) - expected
    assert (np.abs(bias) < 4 * values.std(axis=0) / np.sqrt(len(runs))).all()
    variances = np.mean([run.error_sampling**2 for run in runs], axis=0)
    np.testing.assert_allclose(values.var(axis=0), variances, rtol=0.2)
    ends = np.array([run.interval(0.95) for run in runs])
    covered = np.mean((ends[:, 0] <= expected) & (expected <= ends[:, 1]))
    assert 0.93 <= covered <= 0.97


def test_locked_players_are_never_left_out(rng):
    locked = np.array([1, 3])
    game = toy.random_table(N, rng=rng)

    def watched(coalitions):
        assert coalitions[:, locked].all()
        return game.value(coalitions)

    inner = toy.game_of(4, lambda c: game.value(np.insert(c, [1, 2], True, axis=1)))
    free = [0, 2, 4, 5]
    found = sampled(watched, N, shapley(4), draws=99, locked=locked, rng=rng)
    np.testing.assert_allclose(found.values[free], truth(inner, shapley(4)))
    strata = draw_strata(N, BASES, 99, locked=locked, rng=rng)
    base = stratified_semivalue(watched, strata, locked)
    np.testing.assert_allclose(base.values[free], truth(inner, stratified(N, BASES, 2)))
    orders = permutation_shapley(watched, N, draws=4, locked=locked, rng=rng)
    for estimate in (found, base, orders):
        assert np.isnan(estimate.values[locked]).all()


@pytest.mark.parametrize(
    ("value", "draws", "complaint"),
    [
        (lambda c: c.sum(axis=1), 1, "at least 2"),
        (lambda c: 1.0, 2, r"returned shape \(\) for \d+ coalitions"),
        (lambda c: np.where(c.any(axis=1), 1.0, np.nan), 2, r"players \[\] has value nan"),
    ],
)
def test_what_cannot_be_estimated_is_refused(value, draws, complaint, rng):
    with pytest.raises(ValueError, match=complaint):
        sampled(value, N, shapley(N), draws=draws, rng=rng)


def test_errors_of_both_sources_add_in_squares(rng):
    found = sampled(toy.random_table(N, rng=rng).value, N, shapley(N), draws=3, rng=rng)
    both = type(found)(
        found.name, found.values, found.error_sampling, found.freedom, found.error_sampling, 9.0
    )
    np.testing.assert_allclose(both.errors, found.error_sampling * np.sqrt(2))
    wide, narrow = both.interval(), found.interval()
    assert (wide[1] - wide[0] > narrow[1] - narrow[0]).all()
