"""Cuts by the distances of the full model's states: the best sums, found exactly."""

import itertools

import numpy as np
import pytest
import torch

from coterie.repair.distances import gap_distances, likely_cuts
from coterie.repair.gaps import turns


def sums(distances, coalitions):
    """The sum of distances over the gaps of each coalition."""
    found = []
    for row in coalitions:
        kept = np.flatnonzero(row).tolist()
        found.append(
            sum(distances[t.layer + 1, t.following] for t in turns(kept, len(row)) if t.gap)
        )
    return np.array(found)


@pytest.mark.parametrize(("gone", "locked"), [(1, ()), (3, ()), (3, (2, 5)), (6, ()), (4, (7,))])
def test_the_likely_cuts_are_those_with_the_lowest_sums(gone, locked):
    n = 8
    distances = np.triu(np.random.default_rng(gone).random((n + 1, n + 1)), 1)
    free = [layer for layer in range(1, n) if layer not in locked]
    everyone = []
    for players in itertools.combinations(free, gone):
        row = np.ones(n, dtype=bool)
        row[list(players)] = False
        everyone.append(row)
    truth = np.sort(sums(distances, everyone))
    found = likely_cuts(distances, gone, 7, locked)
    assert len(found) == min(7, len(everyone)) == len(np.unique(found, axis=0))
    np.testing.assert_allclose(sums(distances, found), truth[: len(found)])


def test_distances_are_of_the_states_relative_to_what_comes_after():
    before = [torch.ones(2, 3, 4), torch.full((2, 3, 4), 2.0), torch.full((2, 3, 4), 4.0)]
    found = gap_distances(before)
    np.testing.assert_allclose(found, [[0, 1 / 4, 9 / 16], [0, 0, 1 / 4], [0, 0, 0]])


def test_more_than_can_go_gives_no_cut():
    assert likely_cuts(np.zeros((4, 4)), 3, 5).shape == (0, 3)
