"""Values are higher for better coalitions, and what is not finite is read, counted and kept."""

import numpy as np
import pytest

from coterie.game import toy
from coterie.game.coalitions import Observations, observe_all
from coterie.game.designs import enumerate_all
from coterie.game.utilities import UTILITIES, at_floor, floor_nll, read

GAME = toy.layer_like(6, rng=np.random.default_rng(2), n_sequences=5)
EVERYONE = np.ones((1, 6), dtype=bool)


@pytest.mark.parametrize("utility", UTILITIES.values(), ids=list(UTILITIES))
def test_every_utility_falls_as_the_loss_rises(utility):
    everything = observe_all(GAME, enumerate_all(6))
    full = observe_all(GAME, EVERYONE)
    table, bad = read(everything, utility.quantity, 100)
    values = utility.values(table, read(full, utility.quantity, 100)[0][0])
    worst = everything.nll.mean(axis=1).argmax()
    assert bad == 0
    assert values.argmax() == len(values) - 1  # the full model
    assert values[worst] <= np.quantile(values, 0.1)


def test_the_full_model_is_worth_one_under_the_paper_and_nothing_under_log_loss():
    nll = np.array([[2.0, 4.0], [3.0, 5.0]])
    full = nll[0]
    assert UTILITIES["ppl-ratio"].values(nll, full) == pytest.approx([1, np.exp(-1)])
    assert UTILITIES["log-loss"].values(nll, full) == pytest.approx([0, -1])


def test_what_stands_at_the_floor_is_what_was_not_finite():
    losses = np.array([3.0, floor_nll(1000), 2.0, floor_nll(1000), 2 * floor_nll(1000)])
    assert at_floor(losses, 1000) == 2


def test_what_is_not_finite_is_read_as_the_floor_and_counted():
    table = np.array([[1.0, np.nan], [np.inf, 2.0]])
    seen = Observations(table, table, np.array([[0.5, np.nan], [0.1, 0.2]]))
    nll, bad = read(seen, "nll", 10)
    assert bad == 2
    np.testing.assert_array_equal(nll, [[1, floor_nll(10)], [floor_nll(10), 2]])
    top1, bad = read(seen, "top1", 10)
    assert bad == 1
    assert top1[0, 1] == 0
    assert np.isnan(seen.nll[0, 1])  # the fact stays as it was
