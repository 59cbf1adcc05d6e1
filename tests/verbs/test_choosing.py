"""Games around games, and texts divided by document."""

import numpy as np
import pytest

from coterie.game.coalitions import Block, Observations, observe_all
from coterie.game.search.decide import close_to_best
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SEARCH_METHODS
from coterie.game.search.methods.guided import CLOSE
from coterie.game.search.plain import descent_layers, greedy
from coterie.game.search.task import SearchTask
from coterie.game.toy import layer_like
from coterie.texts.sets import TextSet
from coterie.verbs.search.timed import ConcatenatedGame, OutOfTime, TimedGame
from coterie.verbs.shared.prepared import divided

GUIDED = SEARCH_METHODS["guided"]


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
    both = observe_all(ConcatenatedGame(*games), coalitions).nll
    alone = [observe_all(game, coalitions).nll for game in games]
    assert np.array_equal(both, np.concatenate(alone, axis=1))
    some = np.array([1, 4, 5])
    assert np.array_equal(
        observe_all(ConcatenatedGame(*games), coalitions, some).nll, both[:, some]
    )


def test_a_clocked_game_ends_when_its_seconds_are_spent():
    game = layer_like(6, rng=np.random.default_rng(0), n_sequences=2)
    told = []
    clocked = TimedGame(game, seconds=1.0, tell=told.append)
    grand = np.ones((1, 6), dtype=bool)
    observe_all(clocked, grand)
    assert told[-1] == 12
    clocked.spent = 1.0
    with pytest.raises(OutOfTime):
        observe_all(clocked, grand)


def test_seconds_of_an_earlier_run_are_not_spent_again():
    class Stored:
        n_players, n_sequences = 3, 1

        def observe(self, coalitions, sequences):
            seen = Observations.empty(len(coalitions), len(sequences))
            yield Block(np.arange(len(coalitions)), sequences, seen, seconds=1e6)

    clocked = TimedGame(Stored(), seconds=60.0, tell=lambda _: None)
    for _ in range(2):
        list(clocked.observe(np.ones((1, 3), dtype=bool), np.arange(1)))
    assert clocked.spent < 60 and clocked.recorded == 2e6


@pytest.mark.parametrize("share", [1.0, 1.5, 4.0])
def test_guided_search_never_asks_more_than_its_limit_that_reaches_for_greedy(share):
    game = layer_like(10, rng=np.random.default_rng(3), n_sequences=24)
    ledger, keeps = Ledger(game, floor=8.0), [8, 6]
    limit = share * (descent_layers(10, 6) + 3 * sum(keeps)) * 24
    finalists = GUIDED.play(ledger, SearchTask(10, (8, 6), most_layer_sequences=limit)).answers
    assert ledger.layer_sequences <= limit
    assert {int(answer.coalition.sum()) for answer in finalists} == set(keeps)


@pytest.mark.parametrize("limit", [10, 3_000, 9_000])
def test_a_limit_below_greedy_s_cost_has_greedy_s_answers_all_the_same(limit):
    game = layer_like(10, rng=np.random.default_rng(3), n_sequences=24)
    task = SearchTask(10, (6,), most_layer_sequences=limit)
    played = GUIDED.play(Ledger(game, floor=8.0), task)
    finalists, remark = played.answers, played.remark
    plain = greedy(Ledger(game, floor=8.0), [6])
    found = [answer.coalition for answer in finalists if answer.method == "greedy"]
    assert remark is None and np.array_equal(found[0], plain[0].coalition)


def test_those_too_close_to_tell_are_finalists_too():
    game = layer_like(9, rng=np.random.default_rng(5), n_sequences=6)
    ledger = Ledger(game, floor=8.0)
    finalists = GUIDED.play(ledger, SearchTask(9, (6,))).answers
    near = {tuple(answer.coalition) for answer in close_to_best(ledger, 6, most=CLOSE)}
    assert near <= {tuple(answer.coalition) for answer in finalists}
