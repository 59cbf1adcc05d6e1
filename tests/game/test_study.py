"""A study is decided by its seed and settings, interrupted or not, and keeps to its budget."""

from dataclasses import replace

import numpy as np
import pytest
from tests.slow import slow

from coterie.errors import CutError
from coterie.game.coalitions import sizes
from coterie.game.study import run_study
from coterie.game.study_design import Settings, checked
from coterie.game.toy import layer_like
from coterie.game.utilities import clustered_mean
from coterie.store.observations import Store
from coterie.store.stored_game import StoredGame

N = 8
DOCUMENTS = np.array([0, 0, 1, 2, 2, 3])
VOCABULARY = 4096


def quiet(stage, done, total):
    pass


def game(blow_ups=0.0):
    return layer_like(N, rng=np.random.default_rng(5), n_sequences=6, blow_ups=blow_ups)


def study(settings, on=None, step=quiet, seed=3):
    rng = np.random.default_rng(seed)
    return run_study(on or game(), settings, DOCUMENTS, VOCABULARY, rng=rng, step=step)


@pytest.fixture
def settings():
    return replace(Settings.published(N), budget=60, replicates=4, base_draws=2_000, keep=6)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        yield store


def test_the_seed_decides_everything(settings):
    first, again, other = study(settings), study(settings), study(settings, seed=4)
    for name in ("values", "error_sampling", "error_texts"):
        one, same = (getattr(s.contributions.estimate, name) for s in (first, again))
        np.testing.assert_array_equal(one, same)
    assert (first.contributions.estimate.values != other.contributions.estimate.values).any()


def test_interrupted_anywhere_it_ends_with_the_same_answer_and_asks_nothing_twice(settings, store):
    class Interrupted(Exception):
        pass

    asked = []

    class Watched:
        n_players, n_sequences = N, 6

        def observe(self, coalitions, sequences):
            for row, coalition in enumerate(coalitions):
                asked.append(coalition.tobytes())
                for block in game().observe(coalition[None], sequences):
                    yield type(block)(np.array([row]), block.columns, block.observations)

    def stop_at(count):
        def step(stage, done, total):
            if done >= count:
                raise Interrupted

        return step

    remembered = StoredGame(Watched(), store, store.game({"game": "toy"}))
    for count in (5, 25):
        with pytest.raises(Interrupted):
            study(settings, remembered, stop_at(count))
    resumed, whole = study(settings, remembered), study(settings)
    np.testing.assert_array_equal(
        resumed.contributions.estimate.values, whole.contributions.estimate.values
    )
    assert len(asked) == len(set(asked)) == len(np.unique(resumed.asked, axis=0))


@pytest.mark.parametrize("keep", [None, 4, 6, 7])
def test_the_budget_bounds_distinct_coalitions_in_all(keep):
    settings = replace(Settings.published(N), budget=50, keep=keep)
    asked = checked(settings, N, np.random.default_rng(3))
    assert len(asked) <= 50
    assert asked.all(axis=1).sum() == 1
    held = set(sizes(asked).tolist())
    assert held == {N, *settings.sizes} | ({keep} if keep else set())


def test_a_requested_size_without_a_stratum_is_checked_on_coalitions_of_its_own():
    settings = Settings(sizes=(7, 6), draws=40, keep=4, budget=60, replicates=2, base_draws=500)
    found = study(settings)
    assert found.requested.n_coalitions == 7  # an eighth of the budget
    assert (sizes(found.asked) == 4).sum() == 7


def test_locked_players_are_never_absent_and_never_cut():
    settings = replace(Settings.published(N, (0, 7)), replicates=2, base_draws=500, draws=100)
    found = study(settings)
    assert found.asked[:, [0, 7]].all()
    kept = found.keep(3)
    assert kept[[0, 7]].all() and kept.sum() == 3
    assert np.isnan(found.contributions.estimate.values[[0, 7]]).all()


def test_numbers_that_are_not_finite_are_counted_and_drop_no_row(settings):
    rough, smooth = study(settings, game(blow_ups=0.2)), study(settings)
    bad = ~np.isfinite(rough.table.nll)
    assert rough.not_finite == bad.sum() > 0
    assert rough.table.nll.shape == smooth.table.nll.shape
    np.testing.assert_array_equal(rough.table.nll[~bad], smooth.table.nll[~bad])
    assert np.isfinite(rough.contributions.estimate.values).all()


class TimedGame:
    """A game whose observations each take a hundredth of a second, by its own account."""

    n_players, n_sequences = N, 6

    def __init__(self):
        self.asked = 0

    def observe(self, coalitions, sequences):
        for block in game().observe(coalitions, sequences):
            self.asked += len(coalitions)
            yield replace(block, seconds=0.01 * len(coalitions))


@pytest.mark.parametrize("keep", [None, 4])
def test_a_time_limit_becomes_a_budget_and_the_store_remembers_the_time(store, keep):
    settings = replace(
        Settings.published(N), draws=400, seconds=1.0, replicates=2, base_draws=500, keep=keep
    )
    first, again = TimedGame(), TimedGame()
    number = store.game({"game": "toy"})
    found = study(settings, StoredGame(first, store, number))
    assert 64 <= first.asked <= 100
    same = study(settings, StoredGame(again, store, number))
    assert again.asked == 0 and same.settings == found.settings
    np.testing.assert_array_equal(found.asked, same.asked)


@pytest.mark.parametrize("keep", [None, slow(4)])
def test_a_generous_time_limit_observes_the_whole_design(keep):
    free = replace(Settings.published(N), replicates=2, base_draws=500, keep=keep)
    np.testing.assert_array_equal(study(replace(free, seconds=1e6)).asked, study(free).asked)


def test_a_budget_below_the_strata_is_refused():
    with pytest.raises(CutError, match="too small for 3 strata"):
        study(Settings(sizes=(7, 6, 5), draws=100, budget=4))


def test_nothing_to_choose_is_refused():
    with pytest.raises(CutError, match="fewer than two to choose from"):
        Settings.published(3, locked=(0, 1))


def test_the_clustered_error_is_the_plain_one_for_clusters_of_one_and_wider_for_copies(rng):
    numbers = rng.normal(size=40)
    mean, error = clustered_mean(numbers, np.arange(40))
    assert mean == pytest.approx(numbers.mean())
    assert error == pytest.approx(numbers.std(ddof=1) / np.sqrt(40))
    _, copied = clustered_mean(np.tile(numbers, 3), np.tile(np.arange(40), 3))
    assert copied == pytest.approx(error)
    assert clustered_mean(numbers, np.zeros(40))[1] is None
