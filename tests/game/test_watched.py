"""Watching a surrogate changes nothing it says."""

import numpy as np

from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.surrogates.watched import Watched


def test_watched_replicates_are_the_same_and_are_all_counted(rng):
    coalitions = rng.random((30, 5)) < 0.7
    targets = rng.random((15, 30))
    rows = [rng.permutation(30)[:25] for _ in range(15)]
    told = []
    network = PaperNetwork(epochs=3)
    plain = network.refit(
        coalitions, targets, rows, rngs=[np.random.default_rng(k) for k in range(15)]
    )
    watched = Watched(network, told.append).refit(
        coalitions, targets, rows, rngs=[np.random.default_rng(k) for k in range(15)]
    )
    for one, other in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(one.predict(coalitions), other.predict(coalitions))
    assert told == [12, 15]
