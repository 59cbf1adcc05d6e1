"""Toy games are games: their blocks tile what was asked, and their answers are known."""

import numpy as np
import pytest

from coterie.game import toy
from coterie.game.coalitions import Game, observe_all
from coterie.game.designs import enumerate_all
from coterie.game.estimation.semivalues import exact, shapley

RNG = np.random.default_rng(6)
GAMES = [
    toy.additive(np.arange(4.0)),
    toy.unanimity(4, np.array([0, 2])),
    toy.majority(4),
    toy.glove(1, 3),
    toy.random_table(4, rng=RNG),
    toy.random_pairwise(4, rng=RNG),
    toy.layer_like(4, rng=RNG, n_sequences=3),
]


@pytest.mark.parametrize("game", GAMES)
def test_a_game_is_observed_as_it_is_valued(game: Game):
    seen = observe_all(game, enumerate_all(4))
    assert seen.nll.shape == (16, game.n_sequences)
    np.testing.assert_allclose(-seen.nll.mean(axis=1), game.value(enumerate_all(4)))
    assert np.isfinite([seen.nll, seen.kl, seen.top1]).all()


def test_repeats_are_asked_once_and_answered_each_time():
    game = toy.random_table(4, rng=RNG)
    rows = enumerate_all(4)[[3, 3, 7]]
    np.testing.assert_allclose(-observe_all(game, rows).nll[:, 0], game.value(rows))


def test_pair_interactions_are_shared_in_halves(rng):
    game = toy.random_pairwise(5, rng=rng)
    singles = game.value(np.eye(5, dtype=bool))
    couples = np.eye(5, dtype=bool)[:, None] | np.eye(5, dtype=bool)
    pair = game.value(couples.reshape(-1, 5)).reshape(5, 5) - singles[:, None] - singles
    np.fill_diagonal(pair, 0)
    found = exact(game.value(enumerate_all(5)), shapley(5)).values
    np.testing.assert_allclose(found, singles + pair.sum(axis=1) / 2)


def test_a_layer_like_game_worsens_as_layers_go_and_blows_up_on_request(rng):
    game = toy.layer_like(12, rng=rng, n_sequences=4)
    nll = observe_all(game, enumerate_all(12)).nll.mean(axis=1)
    held = enumerate_all(12).sum(axis=1)
    by_size = [nll[held == size].mean() for size in range(13)]
    assert (np.diff(by_size) < 0).all()
    rough = toy.layer_like(12, rng=rng, blow_ups=0.1)
    share = np.mean(~np.isfinite(observe_all(rough, enumerate_all(12)).nll))
    assert 0.02 < share < 0.4
