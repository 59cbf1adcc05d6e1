"""Coalitions below a ceiling of cost: allowed, no worse than the starts, found where planted."""

import itertools

import numpy as np
import pytest

from coterie.game.search.ceiling import (
    Ceiling,
    PairwiseModels,
    climb_below,
    drawn_below,
    exchanges,
)
from coterie.game.search.exchange import Exchanges, ExchangeSettings
from coterie.game.search.ledger import Ledger
from coterie.game.search.race import by_race
from coterie.game.toy import game_of, layer_like

N_LAYERS = 7
COSTS = np.tile([1.0, 3.0], N_LAYERS)  # attention and feed-forward blocks, as in many models


def without(layers, n_layers=N_LAYERS):
    """The blocks that stay where whole layers go."""
    kept = np.ones(2 * n_layers, dtype=bool)
    for layer in layers:
        kept[2 * layer : 2 * layer + 2] = False
    return kept


def some_attention(coalitions):
    return coalitions[:, 0::2].any(axis=1)


def whole_layers(n_removed):
    return np.array([without(gone) for gone in itertools.combinations(range(N_LAYERS), n_removed)])


def search(game, starts, *, most_executed=np.inf, locked=(), costs=COSTS, seed=0):
    """Search below the cost of the best start, which is put first."""
    ledger = Ledger(game, floor=12.0)
    starts = starts[np.argsort(-ledger.value(starts), kind="stable")][:3]
    ceiling = Ceiling(costs, float(costs @ starts[0]), np.array(locked, dtype=np.intp))
    settings = ExchangeSettings(500, ledger.layers_executed + most_executed)
    found = Exchanges(ledger, ceiling, some_attention, settings, by_race)
    found.search(starts[ceiling.allows(starts)], rng=np.random.default_rng(seed))
    return found


@pytest.mark.parametrize("seed", range(2))
def test_the_best_below_the_ceiling_is_found_in_a_small_game(seed):
    game = layer_like(2 * N_LAYERS, rng=np.random.default_rng(seed), n_sequences=16)
    found = search(game, whole_layers(2), seed=seed)
    every = ((np.arange(4**N_LAYERS)[:, None] >> np.arange(2 * N_LAYERS)) & 1).astype(bool)
    every = every[found.ceiling.allows(every) & some_attention(every)]
    best, value = found.best()
    assert found.ceiling.allows(best[None])[0]
    assert value == pytest.approx(game.value(every).max(), abs=1e-9)
    assert found.ledger.n_asked < len(every) / 4


@pytest.mark.parametrize("seed", range(3))
def test_never_above_the_ceiling_never_worse_than_the_start_and_the_locked_stay(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 16))
    game = layer_like(2 * n, rng=rng, n_sequences=8, roughness=0.2)
    costs, locked = rng.gamma(2.0, size=2 * n), [0, 1]
    layers = rng.choice(np.arange(1, n), size=2, replace=False)
    start = without(layers, n)[None]
    found = search(game, start, most_executed=200 * n, locked=locked, costs=costs, seed=seed)
    answers = found.finalists("blocks", 8)
    for answer in answers:
        assert costs @ answer.coalition <= costs @ start[0] + 1e-6
        assert answer.coalition[locked].all() and answer.coalition[0::2].any()
    assert answers[0].value >= game.value(start)[0]


def test_blocks_that_cost_nothing_are_found():
    planted = [2, 4, 8, 10, 12]  # five attention blocks: more than the cost of a layer
    worth = np.full(2 * N_LAYERS, 0.3)
    worth[planted] = 0.0
    game = game_of(2 * N_LAYERS, lambda coalitions: coalitions @ worth)
    best, value = search(game, whole_layers(1)).best()
    assert value == pytest.approx(worth.sum())
    assert set(np.flatnonzero(~best)) <= set(planted)


def test_where_blocks_need_each_other_whole_layers_are_the_answer():
    """A layer that is half gone costs more than one that is gone."""

    def value(coalitions):
        pairs = coalitions.reshape(len(coalitions), -1, 2)
        gone = (~pairs).any(axis=2) * np.linspace(0.1, 0.4, N_LAYERS)
        return -gone.sum(axis=1) - 0.8 * (pairs[:, :, 0] ^ pairs[:, :, 1]).sum(axis=1)

    best, _ = search(game_of(2 * N_LAYERS, value), whole_layers(2)).best()
    assert np.array_equal(best, without([0, 1]))


@pytest.mark.parametrize("most", [0, 500, 5_000])
def test_no_more_is_executed_than_may_be(most):
    game = layer_like(2 * N_LAYERS, rng=np.random.default_rng(1), n_sequences=16)
    found = search(game, whole_layers(2), most_executed=most)
    assert found.ledger.layers_executed <= found.settings.most_executed


def test_every_exchange_is_allowed_and_has_flipped_its_player():
    rng, n = np.random.default_rng(5), 10
    ceiling = Ceiling(rng.gamma(2.0, size=n), 12.0, np.array([3]))
    starts = drawn_below(ceiling, 6, rng=rng)
    assert ceiling.allows(starts).all()
    pairs = rng.normal(size=(6, n, n)) / 5
    models = PairwiseModels(rng.normal(size=(6, n)), np.triu(pairs, 1) + np.triu(pairs, 1).mT)
    states = exchanges(models, (~starts).astype(float), ceiling) == 0
    assert ceiling.allows(states.reshape(-1, n)).all()
    for player in np.delete(np.arange(n), 3):
        assert (states[:, player, player] != starts[:, player]).all()
    tops = climb_below(models, starts, ceiling)
    values = [models.values((~some).astype(float)[:, None])[:, 0] for some in (starts, tops)]
    assert ceiling.allows(tops).all() and (values[1] >= values[0]).all()
    beside = exchanges(models, (~tops).astype(float), ceiling)
    assert (models.values(beside) <= values[1][:, None] + 1e-9).all()


def test_what_another_account_has_heard_is_not_asked_again(rng):
    game = layer_like(8, rng=rng, n_sequences=6)
    first, second = Ledger(game, floor=9.0), Ledger(game, floor=9.0)
    rows = rng.random((5, 8)) < 0.7
    first.losses(rows[:3]), first.losses(rows[3:], np.arange(2))
    second.take_over(*first.seen())
    assert second.layer_sequences == second.layers_executed == 0
    assert np.array_equal(second.losses(rows[:3]), first.losses(rows[:3]))
    assert second.layer_sequences == 0
    second.losses(rows)  # the rest of the texts is asked
    assert second.layer_sequences == int(rows[3:].sum()) * 4
