"""Games around games, and texts divided by document."""

import numpy as np
import pytest

from coterie.evaluation.calibration import TextSet
from coterie.game.coalitions import observe_all
from coterie.game.toy import layer_like
from coterie.pipeline.clocked import Clocked, Joined, OutOfTime
from coterie.pipeline.opening import divided


def texts(documents):
    tokens = np.arange(2 * len(documents)).reshape(-1, 2)
    names = tuple(f"d{k}" for k in range(max(documents) + 1))
    return TextSet(tokens, np.array(documents), names, "made up", bos=False)


def test_texts_are_divided_by_whole_documents():
    first, second = divided(texts([0, 1, 2, 3, 0, 1, 2, 3]), 4)
    assert first.document_names == ("d0", "d2") and second.document_names == ("d1", "d3")
    assert first.n_sequences == second.n_sequences == 4
    assert not {*first.tokens.flat} & {*second.tokens.flat}


def test_a_single_document_is_not_divided():
    first, second = divided(texts([0, 0, 0, 0]), 2)
    assert first.n_sequences == 2 and second is None


def test_joined_games_answer_as_each_alone(rng):
    games = [layer_like(6, rng=np.random.default_rng(k), n_sequences=3 + k) for k in range(2)]
    coalitions = rng.random((5, 6)) < 0.5
    coalitions = np.unique(coalitions, axis=0)
    both = observe_all(Joined(*games), coalitions).nll
    alone = [observe_all(game, coalitions).nll for game in games]
    assert np.array_equal(both, np.concatenate(alone, axis=1))
    some = np.array([1, 4, 5])
    assert np.array_equal(observe_all(Joined(*games), coalitions, some).nll, both[:, some])


def test_a_clocked_game_ends_when_its_seconds_are_spent():
    game = layer_like(6, rng=np.random.default_rng(0), n_sequences=2)
    told = []
    clocked = Clocked(game, seconds=1.0, tell=told.append)
    grand = np.ones((1, 6), dtype=bool)
    observe_all(clocked, grand)
    assert told[-1] == 12
    clocked.spent = 1.0
    with pytest.raises(OutOfTime):
        observe_all(clocked, grand)
