"""Guided search loses to greedy nowhere, asks no more than it may, and says what it left out."""

import numpy as np
import pytest

from coterie.errors import CutError
from coterie.game import toy
from coterie.game.coalitions import to_text
from coterie.game.search.baselines import GuidedSettings as Within
from coterie.game.search.baselines import least_layer_sequences
from coterie.game.search.decide import close_to_best
from coterie.game.search.evolve import evolve
from coterie.game.search.guided import guided
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SEARCH_METHODS
from coterie.game.search.plain import descent_executed, descent_layers, greedy
from coterie.game.search.race import SafeRaces, by_race
from coterie.game.search.task import SearchTask

KEEPS = [10, 8]

seeded = np.random.default_rng


def game_of(seed, n_sequences=32, n_players=12):
    rng = np.random.default_rng(seed)
    return toy.layer_like(n_players, rng=rng, n_sequences=n_sequences)


def texts_of(answers):
    return [to_text(answer.coalition) for answer in answers]


def test_safe_races_descend_as_greedy_does_for_less():
    cost = []
    for seed in range(30):
        full, raced = (Ledger(game_of(seed), floor=9.0) for _ in range(2))
        races = SafeRaces(4, descent_layers(12, 8))
        assert texts_of(greedy(raced, KEEPS, judge=races)) == texts_of(greedy(full, KEEPS))
        assert not races.short and races.ahead == 0
        assert full.layer_sequences == 32 * descent_layers(12, 8)
        cost.append(raced.layer_sequences / full.layer_sequences)
    assert np.mean(cost) < 0.8


def test_equals_stay_in_a_safe_race_and_the_first_wins():
    ledger = Ledger(toy.ToyGame(5, lambda rows: np.ones((len(rows), 16)), 16), floor=9.0)
    (found,) = greedy(ledger, [4], judge=SafeRaces(1, descent_layers(5, 4)))
    assert to_text(found.coalition) == "01111"
    assert ledger.layer_sequences == 5 * 4 * 16


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 1.0, 3.0])
def test_the_allowance_is_never_exceeded_and_greedy_is_a_finalist_unless_it_says_not(share):
    least = least_layer_sequences(12, KEEPS, 32)
    for seed in range(3):
        plain = Ledger(game_of(seed), floor=9.0)
        theirs = greedy(plain, KEEPS)
        allowance = least + share * (plain.layer_sequences - least)
        ledger, rng = Ledger(game_of(seed), floor=9.0), np.random.default_rng(seed)
        found = guided(
            ledger, KEEPS, Within(budget=300, allowance=allowance), judge=by_race, rng=rng
        )
        assert ledger.layer_sequences <= allowance
        assert (found.remark is None) == (found.descent != "cut short")
        assert share > 0 or found.descent == "cut short"
        assert share < 1 or found.descent in ("raced", "in full")
        assert share < 3 or found.descent == "in full"
        ours = [a for a in found.finalists if a.method == "greedy"]
        assert [a.coalition.sum() for a in ours] == KEEPS
        if found.remark is None:
            assert texts_of(ours) == texts_of(theirs)
            assert all(a.value >= b.value for a, b in zip(found.answers, theirs, strict=True))


def test_an_allowance_below_the_least_is_refused_and_nothing_asked():
    ledger = Ledger(game_of(0), floor=9.0)
    least = least_layer_sequences(12, KEEPS, 32)
    with pytest.raises(CutError, match=f"take {least:,} at the least"):
        guided(
            ledger,
            KEEPS,
            Within(budget=300, allowance=least - 1),
            rng=np.random.default_rng(0),
        )
    assert ledger.n_asked == 0


def test_locks_and_what_was_asked_before_count_too():
    ledger, locked = Ledger(game_of(1), floor=9.0), np.array([0, 11])
    ledger.value(np.ones((1, 12), dtype=bool))
    before = ledger.layer_sequences
    allowance = before + least_layer_sequences(12, [9], 32, n_locked=2)
    rng = np.random.default_rng(0)
    with pytest.raises(CutError, match="allowance"):
        guided(ledger, [9], Within(budget=300, allowance=allowance - 1), locked=locked, rng=rng)
    found = guided(ledger, [9], Within(budget=300, allowance=allowance), locked=locked, rng=rng)
    assert ledger.layer_sequences <= allowance
    assert all(answer.coalition[locked].all() for answer in found.finalists)


def test_a_soft_ceiling_races_greedy_and_leaves_nothing_out():
    ledger = Ledger(game_of(2), floor=9.0)
    rng = np.random.default_rng(0)
    found = guided(ledger, KEEPS, Within(budget=300, most_layer_sequences=0), rng=rng)
    assert found.descent == "raced"
    theirs = greedy(Ledger(game_of(2), floor=9.0), KEEPS)
    assert texts_of(a for a in found.finalists if a.method == "greedy") == texts_of(theirs)


def test_those_too_close_to_tell_are_finalists_where_asked():
    def run(close):
        ledger, rng = Ledger(game_of(4), floor=9.0), np.random.default_rng(0)
        return ledger, guided(ledger, [8], Within(budget=200, close=close), judge=by_race, rng=rng)

    ledger, found = run(4)
    near = texts_of(close_to_best(ledger, 8, most=4))
    own = [a for a in found.finalists if a.method == "guided"]
    assert texts_of(own) == near and len(found.answers) == 1
    assert len([a for a in run(1)[1].finalists if a.method == "guided"]) == 1


def test_evolution_stops_before_it_exceeds_its_allowance():
    for most in (2_000, 4_000, 8_000):
        ledger = Ledger(game_of(3), floor=9.0)
        rng = np.random.default_rng(0)
        evolve(ledger, 8, most_layer_sequences=most, generations=10**6 // most, rng=rng)
        assert most - 8 * (32 * 2 + 4 * 32) < ledger.layer_sequences <= most


def test_a_descent_executes_what_it_is_said_to():
    ledger = Ledger(game_of(0), floor=9.0)
    greedy(ledger, KEEPS)
    assert ledger.layers_executed == 32 * descent_executed(12, 8)
    locked = Ledger(game_of(0), floor=9.0)
    greedy(locked, KEEPS, locked=np.array([10, 11]))
    assert locked.layers_executed == 32 * descent_executed(12, 8, n_locked=2)
    late = Ledger(game_of(0), floor=9.0)
    greedy(late, KEEPS, locked=np.array([0, 5]))
    assert late.layers_executed < locked.layers_executed


@pytest.mark.parametrize("n_players", [12, 16])
def test_guided_search_ends_by_itself_within_its_multiple_of_greedy(n_players):
    method, keeps = SEARCH_METHODS["guided"], (n_players - 2, n_players - 4)
    for seed in range(3):
        ledger = Ledger(game_of(seed, n_players=n_players), floor=9.0)
        task = SearchTask(n_players, keeps, seed=seed)
        found = method.play(ledger, task).answers
        assert ledger.layers_executed <= method.most_executed(task, 32)
        assert ledger.layer_sequences <= method.most_layer_sequences(task, 32)
        theirs = greedy(Ledger(game_of(seed, n_players=n_players), floor=9.0), keeps)
        assert all(a.value >= b.value for a, b in zip(found, theirs, strict=False))


def test_patience_ends_a_search_that_a_budget_would_let_go_on():
    def asked(patience):
        ledger, rng = Ledger(game_of(2, n_players=16), floor=9.0), np.random.default_rng(0)
        within = Within(budget=600, patience=patience)
        return guided(ledger, [11], within, judge=by_race, rng=rng).n_asked

    assert asked(2) < asked(4) < asked(None) <= 600
