"""A stratum holds what it says, favours no player, and spends its budget to the last coalition."""

from math import comb

import numpy as np
import pytest

from coterie.errors import CutError
from coterie.game.coalitions import distinct, from_text, sizes, to_text
from coterie.game.designs import (
    draw_distinct,
    draw_permutations,
    draw_strata,
    enumerate_all,
    fair_shares,
)
from coterie.game.published import paper_draws, paper_sizes

LOCKED = np.array([0, 9])


def test_the_published_strata_are_those_of_32_layers():
    assert paper_sizes(32) == (30, 27, 24, 21, 18)
    assert paper_draws(32) == 8_000


@pytest.mark.parametrize("n_players", range(2, 130))
def test_scaled_strata_cut_someone_and_repeat_nothing(n_players):
    scaled = paper_sizes(n_players)
    assert list(scaled) == sorted(set(scaled), reverse=True)
    assert min(scaled) > 0 and max(scaled) < n_players


@pytest.mark.parametrize("budget", [None, 37, 120])
def test_a_stratum_has_one_size_keeps_the_locked_and_repeats_nothing(budget, rng):
    for stratum in draw_strata(10, (9, 7, 5), 240, locked=LOCKED, rng=rng, budget=budget):
        assert (sizes(stratum.coalitions) == stratum.size).all()
        assert stratum.coalitions[:, LOCKED].all()
        assert len(distinct(stratum.coalitions)[0]) == len(stratum.coalitions)
        assert stratum.population == comb(8, stratum.size - 2)
        assert stratum.complete == (len(stratum.coalitions) == stratum.population)


def test_small_strata_are_enumerated(rng):
    assert [s.complete for s in draw_strata(10, (9, 8, 5), 300, rng=rng)] == [True, True, False]


def test_a_budget_is_spent_in_full_and_what_one_stratum_cannot_use_goes_to_others(rng):
    strata = draw_strata(10, (9, 7, 5), 3_000, rng=rng, budget=110)
    assert [len(s.coalitions) for s in strata] == [10, 50, 50]


def test_a_larger_budget_keeps_what_a_smaller_one_kept():
    small, large = (
        draw_strata(12, (10, 7), 400, rng=np.random.default_rng(3), budget=budget)
        for budget in (40, 80)
    )
    for few, more in zip(small, large, strict=True):
        np.testing.assert_array_equal(few.coalitions, more.coalitions[: len(few.coalitions)])


def test_no_player_is_favoured_though_repeats_are_thrown_away(rng):
    kept = np.zeros(8)
    for _ in range(300):
        (stratum,) = draw_strata(8, (5,), 40, rng=rng)
        kept += stratum.coalitions.mean(axis=0)
    np.testing.assert_allclose(kept / 300, 5 / 8, atol=0.02)


@pytest.mark.parametrize("draws", [3, 20, 500])
def test_distinct_draws_are_as_many_as_asked(draws, rng):
    stratum = draw_distinct(12, 6, draws, locked=LOCKED, rng=rng)
    assert len(distinct(stratum.coalitions)[0]) == min(draws, comb(10, 4))
    assert (sizes(stratum.coalitions) == 6).all()


@pytest.mark.parametrize(("size", "locked"), [(1, LOCKED), (11, LOCKED), (-1, LOCKED[:0])])
def test_an_impossible_size_is_refused(size, locked, rng):
    with pytest.raises(CutError, match=f"keeps {size} of 10 players"):
        draw_strata(10, (size,), 100, locked=locked, rng=rng)


def test_a_budget_too_small_for_the_strata_is_refused(rng):
    with pytest.raises(CutError, match=r"2 coalitions of budget .* 3 strata"):
        draw_strata(10, (9, 8, 7), 100, rng=rng, budget=2)


def test_all_coalitions_come_in_the_order_of_their_bits():
    everything = enumerate_all(3)
    assert [to_text(row) for row in everything[:4]] == ["000", "100", "010", "110"]
    assert len(distinct(everything)[0]) == 8


def test_orders_are_permutations(rng):
    orders = draw_permutations(5, 50, rng=rng)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(5), (50, 1)))


def test_distinct_rows_rebuild_the_whole(rng):
    coalitions = rng.random((200, 9)) < 0.5
    coalitions = coalitions[rng.integers(200, size=500)]
    first, inverse = distinct(coalitions)
    np.testing.assert_array_equal(coalitions[first][inverse], coalitions)
    assert len(np.unique(coalitions, axis=0)) == len(first)
    assert (np.diff(first) > 0).all()


def test_text_form_there_and_back(rng):
    coalitions = rng.random((5, 7)) < 0.5
    np.testing.assert_array_equal(from_text([to_text(row) for row in coalitions]), coalitions)


def test_fair_shares_waste_nothing(rng):
    for _ in range(200):
        wanted, total = rng.integers(0, 20, size=5), int(rng.integers(1, 120))
        shares = fair_shares(total, wanted)
        assert (shares <= wanted).all()
        assert shares.sum() == min(total, wanted.sum())
        poor = shares[shares < wanted]  # nobody who wanted more got much less than anyone else
        assert len(poor) == 0 or shares.max() - poor.min() <= 1
