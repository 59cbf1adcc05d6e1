"""Searches keep what they must, ask what they say, and do not miss what is plain."""

import numpy as np
import pytest

from coterie.errors import CutError
from coterie.game import toy
from coterie.game.search import Ledger, cut_lowest, exhaustive, greedy


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
