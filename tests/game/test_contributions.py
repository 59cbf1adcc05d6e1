"""Contributions through a surrogate: right where it is right, with errors that are the spread."""

import numpy as np
import pytest

from coterie.game import toy
from coterie.game.coalitions import observe_all
from coterie.game.designs import draw_strata
from coterie.game.estimation.contributions import SemivaluePlan, contributions
from coterie.game.estimation.refits import Sample
from coterie.game.estimation.sampling import stratified_semivalue
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.utilities import log_loss, perplexity_ratio

N, SIZES = 10, (9, 7, 5)
GAME = toy.layer_like(N, rng=np.random.default_rng(3), n_sequences=24)
EVERYONE = np.ones((1, N), dtype=bool)
DOCUMENTS = np.arange(24) // 2


def study(draws, rng, surrogate=None, game=GAME, documents=DOCUMENTS, formula=log_loss, **options):
    strata = draw_strata(N, SIZES, draws, rng=rng)
    coalitions = np.concatenate([stratum.coalitions for stratum in strata])
    table = observe_all(game, coalitions).nll
    full = observe_all(game, EVERYONE).nll[0]
    sample, plan = Sample(strata, table, full, documents, formula), SemivaluePlan(SIZES, **options)
    return contributions(sample, surrogate or Pairwise(), plan, rng=rng)


def test_they_are_those_of_the_true_game_where_the_surrogate_is(rng):
    smooth = toy.random_pairwise(N, rng=rng)
    found = study(300, rng, game=smooth, documents=np.zeros(1, dtype=int))
    expected = stratified_semivalue(smooth.value, draw_strata(N, SIZES, 999, rng=rng))
    np.testing.assert_allclose(found.estimate.values, expected.values, atol=0.02)
    assert found.fidelity.overall.r2 > 0.99


def test_one_document_tells_nothing_of_other_texts(rng):
    found = study(100, rng, documents=np.zeros(24, dtype=int))
    assert found.estimate.error_texts is None
    assert found.n_documents == 1


def test_nothing_drawn_is_nothing_to_err_about(rng):
    """Complete strata and a closed form: no sampling error, but that of texts."""
    found = study(9_999, rng)
    np.testing.assert_allclose(found.estimate.error_sampling, 0, atol=1e-12)
    assert (found.estimate.error_texts > 0).all()


def test_the_sampling_error_is_the_spread_over_draws():
    runs = [study(400, rng, replicates=20) for rng in np.random.default_rng(2).spawn(40)]
    actual = np.std([run.estimate.values for run in runs], axis=0, ddof=1)
    told = np.sqrt(np.mean([run.estimate.error_sampling**2 for run in runs], axis=0))
    assert 0.8 < np.median(told / actual) < 1.3


def test_the_error_of_texts_is_the_spread_over_texts():
    """Sequences alike inside a document: other documents would have told another story."""
    values, told = [], []
    for rng in np.random.default_rng(8).spawn(40):
        taste = rng.normal(scale=0.2, size=(N, 12)).repeat(2, axis=1)
        game = toy.ToyGame(N, lambda c, taste=taste: 3 + (~c) @ (0.2 * np.exp(taste)), 24)
        found = study(9_999, rng, game=game, replicates=20)
        values.append(found.estimate.values)
        told.append(found.estimate.error_texts)
    actual = np.std(values, axis=0, ddof=1)
    assert 0.8 < np.median(np.sqrt(np.mean(np.square(told), axis=0)) / actual) < 1.25


def test_the_paper_network_goes_the_same_way(rng):
    found = study(
        200, rng, PaperNetwork(epochs=400), formula=perplexity_ratio, replicates=4, base_draws=500
    )
    estimate = found.estimate
    for part in (estimate.values, estimate.error_sampling, estimate.error_texts):
        assert np.isfinite(part).all()
    assert estimate.values.argmax() == 0


def test_the_same_seed_tells_the_same_story():
    one, again = (study(120, np.random.default_rng(1)).estimate for _ in range(2))
    np.testing.assert_array_equal(one.values, again.values)
    np.testing.assert_array_equal(one.errors, again.errors)


def test_locked_players_have_no_contribution(rng):
    locked = np.array([0])
    strata = draw_strata(N, SIZES, 200, locked=locked, rng=rng)
    coalitions = np.concatenate([stratum.coalitions for stratum in strata])
    table, full = observe_all(GAME, coalitions).nll, observe_all(GAME, EVERYONE).nll[0]
    sample = Sample(strata, table, full, DOCUMENTS, log_loss)
    found = contributions(sample, Pairwise(), SemivaluePlan(SIZES, locked), rng=rng)
    assert np.isnan(found.estimate.values[0])
    assert np.isfinite(found.estimate.values[1:]).all()


def test_a_table_of_another_design_is_refused(rng):
    strata = draw_strata(N, SIZES, 30, rng=rng)
    with pytest.raises(ValueError, match="2 rows of observations"):
        Sample(strata, np.zeros((2, 1)), np.zeros(1), np.zeros(1, int), log_loss)
