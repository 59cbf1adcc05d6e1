"""Layers that share more than their state are never believed when they are run apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.engine import oracle
from tests.engine.oracle import texts

from coterie.engine import model_game as engine
from coterie.engine.model_game import ModelGame
from coterie.engine.parts.head import find_head
from coterie.engine.parts.layers import LayerStack
from coterie.game.coalitions import observe_all
from coterie.testing.tiny import tiny_config, tiny_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_sequences", [1, 3])
def test_layers_that_share_keys_and_values_go_one_coalition_at_a_time(dtype, n_sequences, rng):
    model, tokens = tiny_model("gemma4_text", 6).to(dtype), texts(n_sequences, 20)
    game = ModelGame(model, tokens)
    assert game.mode.startswith("one coalition at a time: its layers, run apart, differ")
    assert "shares no work" in game.remarks[0]
    coalitions = oracle.some_coalitions(rng, game.stack, 4)
    expected = oracle.plainly(model, game.stack, coalitions, tokens)
    np.testing.assert_array_equal(observe_all(game, coalitions).nll, expected.nll)


def test_a_place_for_shared_keys_that_nobody_looks_into_is_no_obstacle(rng):
    config = tiny_config("gemma4_text", 4)
    config.num_kv_shared_layers = 0
    model = type(tiny_model("gemma4_text", 4))(config).eval()
    game = ModelGame(model, texts())
    assert game.mode == "shared prefixes"
    coalitions = oracle.some_coalitions(rng, game.stack, 6)
    expected = oracle.plainly(model, game.stack, coalitions, texts())
    oracle.assert_close(observe_all(game, coalitions), expected, 5e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_that_differ_by_a_fiftieth_of_a_nat_are_not_believed(dtype, monkeypatch):
    model = oracle.model_of("llama", 4).to(dtype)
    assert ModelGame(model, texts()).mode == "shared prefixes"
    monkeypatch.setattr(engine, "find_head", lambda *given: replace(find_head(*given), scale=1.005))
    mode = ModelGame(model, texts()).mode
    assert "layers run apart from the model differ from it by 0.0" in mode


def test_layers_are_held_against_the_model_before_any_loss_is(monkeypatch):
    model = oracle.model_of("llama", 4)
    honest = LayerStack.run
    monkeypatch.setattr(LayerStack, "run", lambda *given: 1.01 * honest(*given))
    game = ModelGame(model, texts())
    assert game.mode.startswith("one coalition at a time: its layers, run apart, differ")
