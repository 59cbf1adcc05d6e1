"""Surrogates learn what they can express, and say how far they are from what they cannot."""

import numpy as np
import pytest
import torch

from coterie.game import toy
from coterie.game.designs import draw_strata, enumerate_all
from coterie.game.published import paper_sizes
from coterie.game.surrogates import switched_marginals
from coterie.game.surrogates.choice import most_faithful
from coterie.game.surrogates.ensemble import Ensemble
from coterie.game.surrogates.explained import ShapleyRegression
from coterie.game.surrogates.fidelity import deal_folds, held_out_fidelity
from coterie.game.surrogates.growing import GrowingProcess
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.surrogates.prior import covariance_of
from coterie.game.surrogates.process import Process, condition
from coterie.game.surrogates.training import Lessons, Schedule, Weights, write_slopes

QUICK = PaperNetwork(epochs=20, batch=32)
EVERY = [QUICK, Pairwise(), Process(), ShapleyRegression(), Ensemble(Pairwise(), 3)]
# the process chooses its prior once for all replicates
APART = [surrogate for surrogate in EVERY if surrogate != Process()]
ALL = pytest.mark.parametrize("surrogate", EVERY, ids=lambda s: s.name)


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
    inputs = np.concatenate([rng.random((2, 7, 5)) < 0.6, np.ones((2, 7, 1))], axis=2)
    inputs = inputs.astype(np.float32)
    targets = rng.random((2, 7)).astype(np.float32)
    known = np.zeros((1, 5), dtype=bool)
    lessons = Lessons.of(known, np.zeros((2, 1)), [[0], [0]], rng.spawn(2), Schedule(1, 1, 1, 0))
    weights, ours = lessons.start(), Weights.empty(2, 5)
    write_slopes(weights, inputs, targets, ours)
    theirs = Weights.over(torch.tensor(weights.flat, requires_grad=True), 5)
    hidden = torch.celu(torch.tensor(inputs) @ theirs.inner.transpose(1, 2))
    output = torch.sigmoid((hidden @ theirs.outer[:, :, None])[..., 0] + theirs.outer_bias)
    ((output - torch.tensor(targets)) ** 2).mean(dim=1).sum().backward()
    np.testing.assert_allclose(ours.flat, theirs.flat.grad.numpy(), atol=1e-6)


def test_networks_trained_together_are_those_trained_one_by_one_by_torch(rng):
    known = some_coalitions(7, 90, rng)
    targets = rng.random((4, len(known)))
    rows = [rng.permutation(len(known))[:70] for _ in range(4)]
    network = PaperNetwork(epochs=30, batch=32, rate=0.05)
    seeds = [np.random.default_rng(k) for k in range(4)]
    together = network.refit(known, targets, rows, rngs=seeds)
    for k, fitted in enumerate(together):
        alone = by_torch(network, known, targets[k], rows[k], np.random.default_rng(k))
        np.testing.assert_allclose(fitted.predict(known), alone, atol=1e-5)


def by_torch(network, known, targets, rows, rng):
    """The public code's training of one network, from the same start and in the same order."""
    n = known.shape[1]
    net = torch.nn.Sequential(
        torch.nn.Linear(n, 2 * n), torch.nn.CELU(), torch.nn.Linear(2 * n, 1), torch.nn.Sigmoid()
    )
    with torch.no_grad():
        for weight, bias in ((net[0].weight, net[0].bias), (net[2].weight, net[2].bias)):
            scale = weight.shape[1] ** -0.5
            drawn = rng.uniform(-1, 1, size=weight.shape[::-1]) * scale
            weight.copy_(torch.tensor(drawn.T))
            bias.copy_(torch.tensor(rng.uniform(-1, 1, size=len(bias)) * scale))
    inputs, wanted = torch.tensor(known).float(), torch.tensor(targets).float()
    descent = torch.optim.SGD(net.parameters(), lr=network.rate, momentum=network.momentum)
    thirds = torch.optim.lr_scheduler.StepLR(descent, network.epochs // 3)
    for _ in range(network.epochs):
        for step in torch.tensor(rows[rng.permutation(len(rows))]).split(network.batch):
            descent.zero_grad()
            torch.nn.functional.mse_loss(net(inputs[step])[:, 0], wanted[step]).backward()
            descent.step()
        thirds.step()
    with torch.no_grad():
        return net(inputs)[:, 0].numpy()


@ALL
def test_marginals_are_differences_of_predictions(surrogate, rng):
    known = some_coalitions(9, 200, rng)
    fitted = surrogate.fit(known, rng.random(len(known)), rng=rng)
    base = rng.random((50, 9)) < 0.5
    expected = switched_marginals(fitted.predict, base)
    np.testing.assert_allclose(fitted.marginals(base), expected, atol=1e-6)


@pytest.mark.parametrize("surrogate", APART, ids=lambda s: s.name)
def test_replicates_do_not_feel_each_other(surrogate, rng):
    known = some_coalitions(9, 120, rng)
    targets = rng.random((11, len(known)))
    rows = [rng.integers(len(known), size=len(known)) for _ in range(11)]
    together = surrogate.refit(
        known, targets, rows, rngs=[np.random.default_rng(k) for k in range(11)]
    )
    alone = surrogate.refit(known, targets[9:10], rows[9:10], rngs=[np.random.default_rng(9)])
    np.testing.assert_allclose(together[9].predict(known), alone[0].predict(known), atol=1e-5)


@ALL
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
    fold = deal_folds(known, 5, rng)
    for size in np.unique(known.sum(axis=1)):
        counts = np.bincount(fold[known.sum(axis=1) == size], minlength=5)
        assert np.ptp(counts) <= 1


def test_a_process_is_as_far_off_as_it_says(rng):
    game = toy.layer_like(14, rng=rng)
    known, fresh = some_coalitions(14, 250, rng), some_coalitions(14, 900, rng)
    fitted = Process().fit(known, game.value(known), rng=rng)
    off = (fitted.predict(fresh) - game.value(fresh)) / np.maximum(fitted.deviation(fresh), 1e-9)
    seen = (fresh[:, None] == known).all(axis=2).any(axis=1)
    assert 0.5 < np.std(off[~seen]) < 1.6
    assert fitted.deviation(fresh[seen]).max() < fitted.deviation(fresh[~seen]).min()
    rivals = Pairwise().fit(known, game.value(known), rng=rng)
    errors = [np.std(one.predict(fresh) - game.value(fresh)) for one in (fitted, rivals)]
    assert errors[0] < errors[1]


def test_posterior_draws_have_the_posterior_mean_and_spread(rng):
    game = toy.layer_like(8, rng=rng)
    known, fresh = some_coalitions(8, 40, rng), enumerate_all(8)[100:130]
    fitted = Process().fit(known, game.value(known), rng=rng)
    draws = fitted.samples(fresh, 4_000, rng=rng)
    mean, deviation = fitted.predict(fresh), fitted.deviation(fresh)
    assert (np.abs(draws.mean(axis=0) - mean) < 5 * deviation / np.sqrt(4_000) + 1e-6).all()
    np.testing.assert_allclose(draws.std(axis=0), deviation, rtol=0.1, atol=2e-3)


def test_errors_of_what_was_seen_are_respected(rng):
    known = some_coalitions(8, 40, rng)
    values = toy.layer_like(8, rng=rng).value(known)
    prior = Process().fit(known, values, rng=rng).prior
    sharp, blurred = (
        condition(prior, known, values),
        condition(prior, known, values, values * 0 + 1),
    )
    assert (sharp.deviation(known) < blurred.deviation(known)).all()


def test_outputs_of_the_shapley_regression_are_shapley_values(rng):
    """Over the whole game its additive part is that of the kernel regression: Shapley's values."""
    worth = rng.normal(size=6)
    everything = enumerate_all(6)
    fitted = ShapleyRegression().fit(everything, toy.additive(worth).value(everything), rng=rng)
    np.testing.assert_allclose(fitted.contributions(3), worth, atol=1e-5)
    np.testing.assert_allclose(fitted.per_player, 0, atol=1e-5)


def test_an_ensemble_is_its_members_mean_and_spread(rng):
    known = some_coalitions(9, 120, rng)
    fitted = Ensemble(QUICK, 4).fit(known, rng.random(len(known)), rng=rng)
    predictions = np.array([member.predict(known) for member in fitted.members])
    np.testing.assert_allclose(fitted.predict(known), predictions.mean(axis=0))
    np.testing.assert_allclose(fitted.deviation(known), predictions.std(axis=0, ddof=1))


def test_the_most_faithful_is_the_one_that_can_say_it(rng):
    known = some_coalitions(10, 400, rng)
    pairs = toy.random_pairwise(10, rng=rng).value(known)
    candidates = [ShapleyRegression(), Pairwise()]
    chosen, found = most_faithful(candidates, known, pairs, size=7, rng=rng)
    assert chosen is candidates[1]
    assert found[1].at(7)[1].r2 > found[0].at(7)[1].r2


def test_a_process_grown_in_parts_is_the_one_made_at_once(rng):
    known, fresh = some_coalitions(10, 90, rng), some_coalitions(10, 40, rng)
    values = toy.layer_like(10, rng=rng).value(known)
    errors = 0.02 * (rng.random(len(known)) < 0.3)
    prior = Process().fit(known, values, rng=rng).prior
    whole = condition(prior, known, values, errors)
    grown = GrowingProcess(prior, 10, mean=whole.mean, scale=whole.scale)
    for part in np.array_split(np.arange(len(known)), [7, 8, 50]):
        grown.add(known[part], errors[part])
    ours = grown.given(values)
    np.testing.assert_allclose(ours.predict(fresh), whole.predict(fresh), atol=1e-7)
    np.testing.assert_allclose(ours.deviation(fresh), whole.deviation(fresh), atol=1e-6)
    draws = [one.pairwise_samples(5, rng=np.random.default_rng(2)) for one in (ours, whole)]
    for mine, theirs in zip(*draws, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_the_mean_of_a_process_is_its_covariances_times_its_weights(rng):
    known, fresh = some_coalitions(9, 60, rng), some_coalitions(9, 40, rng)
    fitted = Process().fit(known, toy.layer_like(9, rng=rng).value(known), rng=rng)
    by_kernel = covariance_of(fitted.prior, fresh, known) @ fitted.weights
    expected = fitted.mean + fitted.scale * by_kernel
    np.testing.assert_allclose(fitted.predict(fresh), expected, atol=1e-8)
