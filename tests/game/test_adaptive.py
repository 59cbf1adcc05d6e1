"""Sampling stops when the cut is settled, spends where it matters, and says what it promises."""

import numpy as np

from coterie.game import toy
from coterie.game.adaptive import adaptive_semivalue, is_settled
from coterie.game.designs import enumerate_all
from coterie.game.search import cut_lowest
from coterie.game.semivalues import exact, stratified

N, BASES, KEEP = 10, (9, 7, 5), 7


def truth(game):
    return exact(game.value(enumerate_all(N)), stratified(N, BASES)).values


def test_a_clear_cut_is_settled_early(rng):
    worth = np.array([0, 0, 0, 5, 6, 7, 8, 9, 9, 9.0])
    done = adaptive_semivalue(toy.additive(worth).value, N, BASES, KEEP, budget=400, rng=rng)
    assert done.settled
    assert np.flatnonzero(~done.cut).tolist() == [0, 1, 2]
    assert sum(done.n_base) <= 12
    assert "single intervals are not" in done.covers


def test_a_cut_said_to_be_settled_is_right():
    settled, right, spent = 0, 0, []
    for seed in range(60):
        game = toy.layer_like(N, rng=np.random.default_rng(seed))
        done = adaptive_semivalue(
            game.value, N, BASES, KEEP, budget=320, rng=np.random.default_rng(seed + 1)
        )
        spent.append(sum(done.n_base))
        settled += done.settled
        right += done.settled and (done.cut == cut_lowest(truth(game), KEEP)).all()
    assert settled > 10
    assert right >= 0.9 * settled
    assert max(spent) <= 320


def test_a_tie_is_never_settled_by_sampling(rng):
    done = adaptive_semivalue(
        toy.random_table(N, rng=rng).value, N, BASES, KEEP, budget=60, rng=rng
    )
    assert not done.settled
    assert sum(done.n_base) == 60


def test_everything_observed_settles_everything(rng):
    game = toy.random_table(N, rng=rng)
    done = adaptive_semivalue(game.value, N, BASES, KEEP, budget=9_999, rng=rng)
    assert done.settled
    np.testing.assert_array_equal(done.cut, cut_lowest(truth(game), KEEP))


def test_bases_go_where_the_game_varies(rng):
    def value(coalitions):
        held = coalitions.sum(axis=1)
        return np.where(held >= 7, held, coalitions @ (np.arange(N) ** 2) % 13)

    done = adaptive_semivalue(value, N, (8, 4), KEEP, budget=80, rng=rng)
    assert done.n_base[1] > 2 * done.n_base[0]


def test_locked_players_stay_and_are_not_asked_without(rng):
    locked = np.array([0, 4])
    game = toy.random_table(N, rng=rng)

    def watched(coalitions):
        assert coalitions[:, locked].all()
        return game.value(coalitions)

    done = adaptive_semivalue(watched, N, BASES, KEEP, budget=40, locked=locked, rng=rng)
    assert done.cut[locked].all()
    assert is_settled(done.estimate, np.ones(N, dtype=bool), 0.95, locked=locked)
