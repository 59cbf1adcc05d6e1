"""Searches keep what they must, ask what they say, and do not miss what is plain."""

import numpy as np
import pytest

from coterie.errors import CutError
from coterie.game import toy
from coterie.game.coalitions import to_text
from coterie.game.designs import all_of_size, draw_distinct, enumerate_all
from coterie.game.search.baselines import GuidedSettings as Within
from coterie.game.search.baselines import plain_cost
from coterie.game.search.climb import climb
from coterie.game.search.decide import close_to_best, decide
from coterie.game.search.evolve import evolve
from coterie.game.search.guided import front_sizes, guided
from coterie.game.search.learner import Scale
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import by_swaps, cut_lowest, exhaustive, greedy, neighbours, windows
from coterie.game.search.race import by_race, in_full
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.utilities import clustered_mean

seeded = np.random.default_rng


def test_the_lowest_are_cut_first_and_ties_by_index():
    values = np.array([2.0, 1.0, 1.0, 0.5, 1.0])
    assert np.flatnonzero(~cut_lowest(values, 3)).tolist() == [1, 3]
    assert np.flatnonzero(~cut_lowest(values, 2)).tolist() == [1, 2, 3]


def test_the_locked_stay_whatever_they_are_worth():
    values = np.array([np.nan, 1.0, 2.0, -9.0])
    kept = cut_lowest(values, 2, locked=np.array([0, 3]))
    assert np.flatnonzero(kept).tolist() == [0, 3]
    with pytest.raises(CutError, match="keeps 1 of 4 players with 2 locked"):
        cut_lowest(values, 1, locked=np.array([0, 3]))


def test_greedy_solves_an_additive_game(rng):
    worth = rng.normal(size=9)
    ledger = Ledger(toy.additive(worth), floor=9.0)
    for keep, answer in zip((8, 6, 4), greedy(ledger, (8, 6, 4)), strict=True):
        assert np.flatnonzero(answer.coalition).tolist() == sorted(np.argsort(-worth)[:keep])
    assert ledger.n_asked == 9 + 8 + 7 + 6 + 5
    assert ledger.layer_sequences == 9 * 8 + 8 * 7 + 7 * 6 + 6 * 5 + 5 * 4


def test_exhaustive_is_at_least_as_good_as_anything(rng):
    ledger = Ledger(toy.layer_like(10, rng=rng), floor=9.0)
    (best,) = exhaustive(ledger, [6])
    assert best.value >= greedy(ledger, [6])[0].value


def layer_like(seed, n_players=12, n_sequences=1):
    return toy.layer_like(n_players, rng=np.random.default_rng(seed), n_sequences=n_sequences)


def test_a_ledger_asks_nothing_twice_and_counts_what_it_asks(rng):
    asked = []
    game = layer_like(0, n_sequences=6)

    def losses(coalitions):
        asked.extend(map(to_text, coalitions))
        return game.losses(coalitions)

    ledger = Ledger(toy.ToyGame(12, losses, 6), floor=9.0)
    some = draw_distinct(12, 8, 5, rng=rng).coalitions
    few, twice = np.array([1, 4]), np.concatenate([some, some[:2]])
    np.testing.assert_allclose(ledger.losses(twice, few), game.losses(twice)[:, few])
    assert ledger.layer_sequences == 5 * 8 * 2
    assert not ledger.asked(some).any()
    np.testing.assert_allclose(ledger.value(some), game.value(some))
    assert ledger.layer_sequences == 5 * 8 * 6
    assert ledger.asked(some).all()
    assert ledger.n_asked == 5
    before = len(asked)
    ledger.value(twice)
    assert len(asked) == before
    assert ledger.best(8)[1] == game.value(some).max()


def test_a_loss_that_is_not_finite_is_read_as_the_floor_and_counted():
    ledger = Ledger(toy.layer_like(12, rng=np.random.default_rng(0), blow_ups=0.2), floor=17.0)
    values = ledger.value(windows(12, 7))
    assert ledger.not_finite == (values == -17).sum() > 0


def test_no_swap_improves_what_swaps_have_found(rng):
    ledger = Ledger(layer_like(4), floor=9.0)
    start = draw_distinct(12, 7, 1, rng=rng).coalitions[0]
    found = by_swaps(ledger, start)
    assert found.coalition.sum() == 7
    assert (ledger.value(neighbours(found.coalition)) <= found.value).all()
    assert len(neighbours(start)) == 7 * 5
    assert len(np.unique(neighbours(start), axis=0)) == 35


def test_windows_lack_one_run_and_no_locked_player():
    assert [to_text(row) for row in windows(5, 3)] == ["00111", "10011", "11001", "11100"]
    assert [to_text(row) for row in windows(5, 3, locked=np.array([0, 2]))] == ["11100"]


def test_climbing_reaches_the_top_of_a_pairwise_model(rng):
    game = toy.random_pairwise(9, rng=rng)
    fitted = Pairwise().fit(enumerate_all(9), game.value(enumerate_all(9)), rng=rng)
    starts = draw_distinct(9, 5, 40, rng=rng).coalitions
    single, pairs = np.tile(fitted.single, (40, 1)), np.tile(fitted.pairs, (40, 1, 1))
    tops = climb(single, pairs, starts, locked=np.array([2]))
    assert (tops.sum(axis=1) == 5).all()
    np.testing.assert_array_equal(tops[:, 2], starts[:, 2])
    free = climb(single, pairs, starts, locked=np.zeros(0, int))
    everything = all_of_size(9, 5)
    assert game.value(free).max() == pytest.approx(game.value(everything).max(), abs=1e-3)


def test_a_race_sends_nobody_home_who_would_have_won():
    wrong, cost = 0, []
    for seed in range(40):
        game = layer_like(seed, n_sequences=64)
        raced, full = Ledger(game, floor=9.0), Ledger(game, floor=9.0)
        candidates = ~np.eye(12, dtype=bool)
        wrong += by_race(raced, candidates) != in_full(full, candidates)
        cost.append(raced.layer_sequences / full.layer_sequences)
    assert wrong <= 4
    assert np.mean(cost) < 0.7


def test_evolution_climbs_and_keeps_its_size_and_locks():
    locked = np.array([0, 11])
    ledger = Ledger(layer_like(3, n_sequences=16), floor=9.0)
    found = evolve(ledger, 8, locked=locked, rng=np.random.default_rng(0), generations=12)
    assert found.coalition.sum() == 8
    assert found.coalition[locked].all()
    everything = ledger.value(all_of_size(12, 8, locked=locked))
    assert (everything > found.value).mean() < 0.05


def test_guided_search_finds_the_optimum_of_every_size():
    keeps, hits = front_sizes(12), []
    assert list(keeps) == [11, 10, 9, 8, 7, 6]
    for seed in range(4):
        game = layer_like(seed)
        ledger = Ledger(game, floor=9.0)
        found = guided(ledger, keeps, Within(budget=409), rng=seeded(seed))
        optimum = exhaustive(Ledger(game, floor=9.0), keeps)
        hits += [a.value >= b.value for a, b in zip(found.answers, optimum, strict=True)]
        assert found.n_asked <= 409
    assert np.mean(hits) >= 0.95


def test_guided_search_never_ends_below_a_finalist():
    game = layer_like(1, n_players=20)
    ledger = Ledger(game, floor=9.0)
    locked = np.array([0, 19])
    found = guided(ledger, [15], Within(budget=230), locked=locked, rng=np.random.default_rng(0))
    (own,) = found.answers
    assert {answer.method for answer in found.finalists} >= {"greedy", "one-shot", "contiguous"}
    assert all(answer.value <= own.value for answer in found.finalists)
    assert all(answer.coalition[locked].all() for answer in found.finalists)
    assert game.value(own.coalition[None])[0] == own.value


def test_racing_finds_the_same_for_a_fraction_of_the_cost():
    gaps, cost = [], []
    for seed in range(3):
        game = layer_like(seed, n_players=14, n_sequences=32)
        full, raced = Ledger(game, floor=9.0), Ledger(game, floor=9.0)
        one = guided(full, [10], Within(budget=220), rng=seeded(0))
        other = guided(raced, [10], Within(budget=220), judge=by_race, rng=np.random.default_rng(0))
        gaps.append(one.answers[0].value - other.answers[0].value)
        cost.append(raced.layer_sequences / full.layer_sequences)
    assert max(gaps) < 0.01
    assert np.mean(cost) < 0.5


def test_a_value_seen_on_few_texts_is_as_far_off_as_it_says(rng):
    game = layer_like(5, n_sequences=64)
    ledger = Ledger(game, floor=9.0)
    some = draw_distinct(12, 8, 200, rng=rng).coalitions
    ledger.value(some[:50])
    ledger.losses(some, np.arange(16))
    coalitions, values, errors = ledger.estimates()
    assert len(values) == 200
    assert (errors[:50] == 0).all()
    np.testing.assert_allclose(values[:50], game.value(coalitions[:50]))
    off = (values - game.value(coalitions))[50:] / errors[50:]
    assert 0.6 < np.std(off) < 1.6


def test_a_ceiling_on_the_cost_is_kept():
    ledger = Ledger(layer_like(5, n_sequences=8), floor=9.0)
    guided(
        ledger,
        [8],
        Within(budget=400, most_layer_sequences=8_000),
        rng=np.random.default_rng(0),
    )
    assert 6_000 < ledger.layer_sequences <= 8_000


def test_the_seed_decides_a_guided_search():
    one, again = (
        guided(
            Ledger(layer_like(2), floor=9.0),
            [7],
            Within(budget=120),
            rng=np.random.default_rng(5),
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.answers[0].coalition, again.answers[0].coalition)
    assert one.n_asked == again.n_asked


def test_nobody_is_better_than_the_winner_where_it_is_decided():
    game = layer_like(7, n_players=14, n_sequences=40)
    first, union = (Ledger(game, floor=9.0, sequences=np.arange(n)) for n in (16, 40))
    found = guided(first, [12, 10], Within(budget=200), rng=seeded(0))
    decisions = decide(union, found.finalists, np.arange(40) // 4)
    assert [int(decision.winner.coalition.sum()) for decision in decisions] == [12, 10]
    for decision in decisions:
        same = [a for a in found.finalists if a.coalition.sum() == decision.winner.coalition.sum()]
        best = max(game.value(answer.coalition[None])[0] for answer in same)
        assert decision.winner.value == pytest.approx(best)
        assert all(standing.behind >= 0 for standing in decision.standings)
        assert {s.method for s in decision.standings} >= {"guided", "greedy", "ranked"}


def test_a_clustered_error_is_the_spread_over_documents(rng):
    documents = np.repeat(np.arange(30), 4)
    runs = [
        clustered_mean(rng.normal(size=30).repeat(4) + 0.1 * rng.normal(size=120), documents)
        for _ in range(500)
    ]
    means, errors = np.array(runs).T
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(means.std(), rel=0.15)
    assert clustered_mean(np.ones(4), np.zeros(4))[1] is None


def test_a_budget_below_the_plain_answers_is_refused():
    ledger = Ledger(layer_like(1), floor=9.0)
    least = plain_cost(12, [8])
    with pytest.raises(CutError, match=rf"20 coalitions .* up to {least}"):
        guided(ledger, [8], Within(budget=20), rng=seeded(0))
    assert ledger.n_asked == 0
    guided(ledger, [8], Within(budget=least), rng=seeded(0))
    assert ledger.n_asked <= least


def test_levels_keep_the_order_and_are_true_near_the_top(rng):
    values = np.sort(rng.normal(size=50))[::-1]
    scale = Scale.of(values)
    assert (np.diff(scale.level(values)) < 0).all()
    assert scale.slope(values[0]) == 1
    step = 1e-6
    slopes = (scale.level(values + step) - scale.level(values)) / step
    np.testing.assert_allclose(slopes[1:], scale.slope(values)[1:], rtol=1e-4)
    assert scale.level(values[0] - 1e6) > -2.01 * scale.unit


def test_close_rivals_are_told_from_the_best_by_more_texts_alone(rng):
    game = layer_like(3, n_players=9, n_sequences=24)
    ledger = Ledger(game, floor=9.0)
    (best,) = exhaustive(ledger, [6])
    close = close_to_best(ledger, 6, most=10)
    assert to_text(close[0].coalition) == to_text(best.coalition)
    assert 1 <= len(close) <= 10
    assert [a.value for a in close] == sorted((a.value for a in close), reverse=True)
    few = Ledger(game, floor=9.0, sequences=np.arange(1))
    exhaustive(few, [6])
    assert len(close_to_best(few, 6, most=10)) == 10  # one text tells nothing apart
    sure = close_to_best(ledger, 6, most=10, confidence=0.5)
    assert len(sure) == 1
