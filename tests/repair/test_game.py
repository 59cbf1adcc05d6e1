"""The repaired game: what it says is what a repair of the coalition, on its own, comes to."""

import gc
import weakref

import numpy as np
import pytest
import torch
from tests.repair.laws import N_LAYERS, made, texts

from coterie.errors import RepairError
from coterie.game.coalitions import observe_all
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import windows
from coterie.repair.choose import repaired_weights
from coterie.repair.distances import gap_distances
from coterie.repair.game import RepairedGame
from coterie.repair.repairable import WholeModel, cut_loss
from coterie.repair.search import swap_search, swapped
from coterie.repair.table import REPAIRS
from coterie.repair.walk import Walk


@pytest.fixture(scope="module")
def texted():
    model, stack = made("llama")
    return model, stack, texts(model, 48), texts(model, 6, seed=1)


@pytest.mark.parametrize("name", ["map", "down", "progressive", "spread"])
def test_a_coalition_is_worth_its_repaired_loss(texted, name):
    model, stack, fit, tokens = texted
    game = RepairedGame(model, stack, fit, tokens, REPAIRS[name])
    rows = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 1], [1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
    seen = observe_all(game, rows)
    for row, nll in zip(rows, seen.nll, strict=True):
        kept = np.flatnonzero(row).tolist()
        weights, _ = repaired_weights(WholeModel(model, stack), kept, fit, REPAIRS[name])
        np.testing.assert_allclose(nll, cut_loss(model, stack, kept, tokens, weights), atol=1e-4)
    assert np.allclose(seen.kl[3], 0, atol=1e-5) and seen.top1[3].min() == 1


def test_some_texts_are_read_as_all_are(texted):
    model, stack, fit, tokens = texted
    game = RepairedGame(model, stack, fit, tokens, REPAIRS["both"])
    rows, some = np.array([[1, 0, 1, 1, 1], [1, 1, 0, 0, 1]], bool), np.array([4, 1])
    whole = observe_all(game, rows)
    for block in game.observe(rows, some):
        columns = some[block.columns]
        for name in ("nll", "kl", "top1"):
            found = getattr(block.observations, name)
            np.testing.assert_allclose(
                found, getattr(whole, name)[block.rows][:, columns], atol=1e-6
            )


def test_a_game_that_may_remember_nothing_says_the_same(texted):
    model, stack, fit, tokens = texted
    rows = np.array([[1, 1, 0, 1, 1], [1, 0, 1, 1, 1], [1, 1, 0, 1, 0]], bool)
    games = [RepairedGame(model, stack, fit, tokens, REPAIRS["both"], n) for n in (1 << 30, 0)]
    for row in rows:  # apart, so that the way itself shares as little as it can
        seen = [observe_all(game, row[None]).nll for game in games]
        np.testing.assert_allclose(*seen, atol=1e-6)
    assert games[0].again and not games[1].again and games[1].made > games[0].made
    kept = [set(game.weights(rows[0])) for game in games]
    assert kept[0] == kept[1] and kept[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_game_says_nearly_the_same(texted, dtype):
    model, stack, fit, tokens = texted
    row = np.array([[1, 1, 0, 1, 1]], bool)
    whole = observe_all(RepairedGame(model, stack, fit, tokens, REPAIRS["both"]), row)
    half, half_stack = made("llama")
    half.to(dtype)
    game = RepairedGame(half, half_stack, fit, tokens, REPAIRS["both"])
    seen = observe_all(game, row)
    np.testing.assert_allclose(seen.nll, whole.nll, atol=0.08)
    assert gap_distances(game.full_states).shape == (N_LAYERS + 1, N_LAYERS + 1)


def test_what_two_coalitions_share_is_repaired_once(texted):
    model, stack, fit, tokens = texted
    game = RepairedGame(model, stack, fit, tokens, REPAIRS["down"])
    rows = np.array([[1, 1, 0, 1, 1], [1, 1, 0, 1, 0], [1, 1, 0, 0, 1]], bool)
    first = observe_all(game, rows)
    assert game.made == 3  # the gap 2, the gap 4 behind it, and the gap 2–3
    again = observe_all(game, rows[::-1])
    assert game.made == 3 and game.again > 0
    np.testing.assert_allclose(again.nll[::-1], first.nll, atol=1e-6)
    weights = game.weights(rows[1])
    assert sorted(weights) == [f"model.layers.{i}.mlp.down_proj.weight" for i in (1, 3)]


def test_a_repair_that_comes_back_is_refused(texted):
    model, stack, fit, tokens = texted
    with pytest.raises(RepairError, match="search with down, both or progressive"):
        RepairedGame(model, stack, fit, tokens, REPAIRS["scalar"])


def test_swaps_move_the_ends_of_gaps_and_find_the_best_run():
    coalition = np.array([1, 1, 0, 0, 1, 1, 1], bool)
    near = swapped(coalition)
    assert {tuple(np.flatnonzero(~row)) for row in near} == {(1, 2), (1, 3), (2, 4), (3, 4)}
    assert all(row[1] for row in swapped(coalition, locked=(1,)))
    # Least lost when 4 and 5 go; the start is two moves away.
    ledger = Ledger.of(lambda rows: -np.abs((~rows) @ np.arange(7.0) - 9) - rows[:, 6], 7)
    best, value = swap_search(ledger, coalition[None], most=50)
    assert value == max(ledger.known(5)[1]) and (~best).sum() == 2
    assert ledger.n_asked <= 50


def test_the_search_improves_on_where_it_starts(texted):
    model, stack, fit, tokens = texted
    game = RepairedGame(model, stack, fit, tokens, REPAIRS["both"])
    starts = windows(N_LAYERS, N_LAYERS - 2)[1:2]
    ledger = Ledger(game, floor=10.0)
    before = ledger.value(starts)[0]
    _, value = swap_search(ledger, starts, most=6)
    assert value >= before and ledger.n_asked <= 6


def test_on_other_texts_refits_are_taken_over_states_let_go_and_every_token_told(
    texted, monkeypatch
):
    model, stack, fit, tokens = texted
    run, executed = Walk.run, []

    def counted(walk, layer, states, rows):
        executed.append(states.shape[0] * states.shape[1])
        return run(walk, layer, states, rows)

    monkeypatch.setattr(Walk, "run", counted)
    first = RepairedGame(model, stack, fit, tokens, REPAIRS["both"])
    rows = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 1]], bool)
    before = observe_all(first, rows).nll
    states = weakref.ref(first.full_states[2]._base)
    other = texts(model, 5, seed=3)
    second = first.on(other)
    gc.collect()
    assert states() is None
    seen = observe_all(second, rows).nll
    assert first.made and not second.made and second.again
    assert first.layer_tokens + second.layer_tokens == sum(executed)
    alone = observe_all(RepairedGame(model, stack, fit, other, REPAIRS["both"]), rows).nll
    np.testing.assert_allclose(seen, alone, atol=1e-5)
    # The first may still be asked: the full model runs once more, and that is told as well.
    told = first.layer_tokens
    del executed[:]
    np.testing.assert_allclose(observe_all(first, rows).nll, before, atol=1e-5)
    assert first.layer_tokens - told == sum(executed) > 0


def test_states_that_do_not_fit_are_refused_before_a_layer_runs(texted, monkeypatch):
    model, stack, fit, tokens = texted
    monkeypatch.setattr("coterie.repair.amount.free_bytes", lambda device: 1000)
    monkeypatch.setattr(Walk, "run", None)
    with pytest.raises(RepairError, match=r"54 texts between 5 layers take .*B, and cpu has 1"):
        RepairedGame(model, stack, fit, tokens, REPAIRS["both"])
