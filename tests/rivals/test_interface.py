"""What every rival must do: answer in size, keep who is locked, count its cost, change nothing."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.rivals.tasks import again, llama, make_task

from coterie.rivals import RIVALS
from coterie.rivals.interface import DoesNotApply, Meter, Rewrite, Selection
from coterie.store.observations import Store
from coterie.store.stored_game import StoredGame


@pytest.fixture(scope="module")
def outcomes(model):
    """Every rival on the same task, with one layer locked."""
    before = {name: p.clone() for name, p in model.named_parameters()}
    task = make_task(model, (1, 2), locked=np.array([5]))
    found = {name: rival.play(again(task, (1, 2))) for name, rival in RIVALS.items()}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None and parameter.requires_grad
    assert not any("forward" in vars(module) for module in model.modules())
    return found


@pytest.mark.parametrize("name", RIVALS)
def test_answers_are_of_the_size_asked_and_keep_the_locked(outcomes, name):
    outcome = outcomes[name]
    assert set(outcome.chosen) | {1, 2} == {1, 2}
    assert outcome.chosen or outcome.remarks
    for removal, answer in outcome.chosen.items():
        assert isinstance(answer, Rewrite) == (RIVALS[name].kind == "rewrite")
        if isinstance(answer, Selection) and answer.players == "layer":
            assert answer.coalitions.dtype == bool
            assert (answer.coalitions.sum(axis=1) == 8 - removal).all()
            assert answer.coalitions[:, 5].all()
        if isinstance(answer, Selection) and answer.players == "sublayer":
            assert answer.coalitions[:, [10, 11]].all()
        if isinstance(answer, Rewrite):
            assert answer.kept[5] and answer.what


@pytest.mark.parametrize("name", RIVALS)
def test_a_cost_is_counted(outcomes, name):
    cost = outcomes[name].cost
    free = name in ("random", "shortened-magnitude")
    assert (cost.layer_tokens_asked == 0) == free
    assert cost.layer_tokens_executed <= cost.layer_tokens_asked + 8 * 12 * 12
    assert (cost.backward_layer_tokens > 0) == (name in ("shortened-taylor", "clp"))
    assert cost.seconds >= 0


def test_a_method_that_asks_is_charged_as_if_alone(model):
    task = make_task(model, (1,))
    first = RIVALS["sleb"].play(task)
    second = RIVALS["sleb"].play(again(task, (1,)))
    assert first.cost.layer_tokens_asked == second.cost.layer_tokens_asked
    # 8 layers, the ends kept: 6 candidates of 7 layers, on 12 texts of 12 tokens.
    assert first.cost.layer_tokens_asked == 6 * 7 * 144
    assert first.cost.head_tokens == 6 * 12 * 11


def test_what_a_store_knows_is_charged_as_if_it_were_new(model):
    task = make_task(model, (1,))
    store = Store(":memory:")
    task = replace(task, game=StoredGame(task.game, store, store.game({"kind": "test"})))
    first, second = (RIVALS["sleb"].play(replace(task)).cost for _ in range(2))
    assert task.game.hits > 0
    assert second.layer_tokens_executed == first.layer_tokens_executed > 0
    # Six candidates, in prefix order: what lies before the first cut is run once.
    assert second.layer_tokens_executed < second.layer_tokens_asked
    ((took,),) = store._ask("SELECT SUM(seconds) FROM observation")
    assert second.seconds >= 0.9 * took


def test_sublayers_count_as_half_a_layer(model):
    from coterie.models.loaded.blocks import find_players

    task = make_task(model, (1,))
    meter = Meter(task)
    ledger = meter.ledger(stack=find_players(model, "sublayer"))
    ledger.value(np.ones((1, 16), dtype=bool))
    assert meter.cost().layer_tokens_asked == 8 * 144


def test_the_same_seed_gives_the_same_answer(model):
    task = make_task(model, (2,))
    for name in ("random", "evopress", "gtap", "clp"):
        one, other = (RIVALS[name].play(again(task, (2,), seed=3)).chosen[2] for _ in range(2))
        assert np.array_equal(one.coalitions, other.coalitions), name


def test_the_table_names_the_rivals_without_torch():
    code = "import sys, coterie.rivals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_too_many_layers_to_try_all_coalitions_are_refused():
    task = make_task(llama(24), (1,))
    with pytest.raises(DoesNotApply, match="24 layers may go"):
        RIVALS["exhaustive"].play(task)
    locked = make_task(llama(24), (1,), locked=np.arange(20))
    assert RIVALS["exhaustive"].play(locked).chosen[1].coalitions[0, :20].all()
