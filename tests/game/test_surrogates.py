"""Surrogates learn what they can express, and say how far they are from what they cannot."""

import numpy as np
import pytest
import torch

from coterie.game import toy
from coterie.game.designs import draw_strata, enumerate_all, paper_sizes
from coterie.game.surrogates import switched_marginals
from coterie.game.surrogates.fidelity import deal, held_out_fidelity
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.paper import PaperNetwork, _initial, _slopes

QUICK = PaperNetwork(epochs=20, batch=32)
BOTH = pytest.mark.parametrize("surrogate", [QUICK, Pairwise()], ids=lambda s: s.name)


def some_coalitions(n_players, draws, rng):
    strata = draw_strata(n_players, paper_sizes(n_players), draws, rng=rng)
    return np.concatenate([stratum.coalitions for stratum in strata])


def test_a_pairwise_game_is_recovered_from_few_coalitions(rng):
    game = toy.random_pairwise(8, rng=rng)
    everything = enumerate_all(8)
    known = everything[rng.permutation(256)[:80]]
    fitted = Pairwise().fit(known, game.value(known), rng=rng)
    np.testing.assert_allclose(fitted.predict(everything), game.value(everything), atol=1e-2)


def test_with_fewer_coalitions_than_pairs_the_ridge_still_ranks(rng):
    game = toy.layer_like(16, rng=rng)
    known, fresh = some_coalitions(16, 90, rng), some_coalitions(16, 400, rng)
    fitted = Pairwise().fit(known, game.value(known), rng=rng)
    assert np.corrcoef(fitted.predict(fresh), game.value(fresh))[0, 1] > 0.8


def test_the_network_learns_a_smooth_game(rng):
    game = toy.layer_like(8, rng=rng)
    everything = enumerate_all(8)
    ratio = np.exp(game.value(everything) - game.value(everything)[-1])
    fitted = PaperNetwork(epochs=2_000, batch=64, rate=0.05).fit(everything, ratio, rng=rng)
    assert np.corrcoef(fitted.predict(everything), ratio)[0, 1] > 0.98


def test_slopes_are_those_of_torch(rng):
    weights = _initial(5, rng.spawn(2))
    inputs = (rng.random((2, 7, 5)) < 0.6).astype(np.float32)
    targets = rng.random((2, 7)).astype(np.float32)
    ours = _slopes(weights, inputs, targets)
    theirs = [torch.tensor(weight, requires_grad=True) for weight in weights]
    hidden = torch.celu(torch.tensor(inputs) @ theirs[0] + theirs[1])
    output = torch.sigmoid(hidden @ theirs[2] + theirs[3])[..., 0]
    ((output - torch.tensor(targets)) ** 2).mean(dim=1).sum().backward()
    for mine, weight in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, weight.grad.numpy(), atol=1e-6)


@BOTH
def test_marginals_are_differences_of_predictions(surrogate, rng):
    known = some_coalitions(9, 200, rng)
    fitted = surrogate.fit(known, rng.random(len(known)), rng=rng)
    base = rng.random((50, 9)) < 0.5
    expected = switched_marginals(fitted.predict, base)
    np.testing.assert_allclose(fitted.marginals(base), expected, atol=1e-6)


@BOTH
def test_replicates_do_not_feel_each_other(surrogate, rng):
    known = some_coalitions(9, 120, rng)
    targets = rng.random((11, len(known)))
    rows = [rng.integers(len(known), size=len(known)) for _ in range(11)]
    together = surrogate.refit(
        known, targets, rows, rngs=[np.random.default_rng(k) for k in range(11)]
    )
    alone = surrogate.refit(known, targets[9:10], rows[9:10], rngs=[np.random.default_rng(9)])
    np.testing.assert_allclose(together[9].predict(known), alone[0].predict(known), atol=1e-5)


@BOTH
def test_the_seed_decides_the_fit(surrogate):
    rng = np.random.default_rng(4)
    known = some_coalitions(9, 120, rng)
    targets = rng.random(len(known))
    one, again = (surrogate.fit(known, targets, rng=np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one.predict(known), again.predict(known))


def test_fidelity_is_high_where_the_surrogate_is_right_and_nil_where_nothing_can_be(rng):
    known = some_coalitions(10, 600, rng)
    right = toy.random_pairwise(10, rng=rng).value(known)
    fidelity, predictions = held_out_fidelity(Pairwise(), known, right, rng=rng)
    assert fidelity.overall.r2 > 0.99
    assert predictions.shape == right.shape
    noise, _ = held_out_fidelity(Pairwise(), known, rng.normal(size=len(known)), rng=rng)
    assert abs(noise.overall.spearman) < 0.25
    assert noise.overall.r2 < 0.05


def test_fidelity_of_a_size_never_seen_is_that_of_the_nearest(rng):
    known = some_coalitions(16, 300, rng)
    fidelity, _ = held_out_fidelity(Pairwise(), known, rng.random(len(known)), rng=rng)
    assert sum(part.n_coalitions for part in fidelity.by_size.values()) == len(known)
    assert fidelity.at(14)[0] == 13
    assert fidelity.at(12)[0] == 12


def test_folds_are_even_in_every_size(rng):
    known = some_coalitions(16, 300, rng)
    fold = deal(known, 5, rng)
    for size in np.unique(known.sum(axis=1)):
        counts = np.bincount(fold[known.sum(axis=1) == size], minlength=5)
        assert np.ptp(counts) <= 1
