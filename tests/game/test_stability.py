"""Overlaps are one for the same answer and fall with every difference."""

import numpy as np
import pytest

from coterie.game.coalitions import from_text
from coterie.game.stability import cut_overlaps, jaccard, rank_overlaps


def test_overlap_is_that_of_what_was_cut():
    same, half, none = from_text(["0011", "0110", "1100"])
    assert jaccard(same, same) == 1
    assert jaccard(same, half) == pytest.approx(1 / 3)
    assert jaccard(same, none) == 0
    assert jaccard(np.ones(3, bool), np.ones(3, bool)) == 1
    np.testing.assert_allclose(cut_overlaps(np.stack([same, half, none])), [1 / 3, 0, 1 / 3])


def test_ranks_overlap_whatever_the_scale_and_without_the_locked(rng):
    values = rng.normal(size=6)
    values[2] = np.nan
    found = rank_overlaps(np.stack([values, 3 * values - 1, -values]))
    np.testing.assert_allclose(found, [1, -1, -1])
