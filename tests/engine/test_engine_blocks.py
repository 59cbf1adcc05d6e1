"""Blocks of layers go through the same trie as whole layers, with the same exactness."""

import numpy as np
import pytest
import torch
from tests.engine import oracle
from tests.engine.oracle import SMALL, plainly, texts

from coterie.engine.batch_shape import BatchShape
from coterie.engine.model_game import ModelGame
from coterie.engine.parts.blocks import BlockSteps
from coterie.errors import ModelError
from coterie.game.coalitions import observe_all
from coterie.game.prefixes import prefix_order
from coterie.models.loaded.blocks import find_players

IN_TURN = [
    "llama", "mistral", "qwen2", "qwen3", "gpt2", "gemma2", "gemma3_text", "phi3", "mixtral",
    "granite", "olmo2", "starcoder2", "stablelm", "qwen3_moe",
]  # fmt: skip
"""Families whose layers are an attention block, then a feed-forward block."""


def model_of(family, n_layers=4):
    return oracle.model_of(family, n_layers)


def some_coalitions(rng, stack, n=12):
    return oracle.some_coalitions(rng, stack, n)


def assert_close(found, expected, room=5e-6):
    oracle.assert_close(found, expected, room)


@pytest.mark.parametrize("family", IN_TURN)
def test_shared_prefixes_of_blocks_change_no_value(family, rng):
    model, tokens = model_of(family), texts()
    stack = find_players(model, "sublayer")
    game = ModelGame(model, tokens, stack=stack, shape=SMALL)
    assert game.mode == "shared prefixes"
    coalitions = some_coalitions(rng, stack)
    expected = plainly(model, stack, coalitions, tokens)
    assert np.ptp(expected.nll) > 1e-3  # else the test could not fail
    assert_close(observe_all(game, coalitions), expected)


@pytest.mark.parametrize("players", ["attention", "mlp"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_blocks_of_one_kind_are_played_while_the_others_always_run(family, players, rng):
    model, tokens = model_of(family), texts()
    stack = find_players(model, players)
    game = ModelGame(model, tokens, stack=stack, shape=SMALL)
    assert game.mode == "shared prefixes"
    coalitions = some_coalitions(rng, stack)
    assert_close(observe_all(game, coalitions), plainly(model, stack, coalitions, tokens))


@pytest.mark.parametrize("players", ["sublayer", "attention", "mlp"])
def test_executions_are_the_distinct_prefixes_that_end_in_a_kept_block(players, rng):
    model = model_of("llama")
    game = ModelGame(model, texts(), stack=find_players(model, players), shape=SMALL)
    coalitions = some_coalitions(rng, game.stack, 40)
    observe_all(game, coalitions)
    prefixes = {row[: end + 1].tobytes() for row in coalitions for end in np.flatnonzero(row)}
    assert game.spent.layer_executions == len(prefixes) < coalitions.sum()
    assert game.spent.layer_tokens == len(prefixes) * game.tokens.numel()
    assert game.plan(coalitions).layer_tokens_executed == game.spent.layer_tokens


@pytest.mark.parametrize("players", ["layer", "sublayer", "attention", "mlp"])
def test_a_walk_has_enough_of_the_fewest_states_it_is_said_to_need(players, rng):
    model = model_of("llama", 8)
    game = ModelGame(model, texts(2), stack=find_players(model, players), shape=SMALL)
    coalitions = some_coalitions(rng, game.stack, 40)
    coalitions = coalitions[prefix_order(coalitions)]
    needed = game.plan(coalitions).narrowest_states * game.walker.state_bytes
    list(game.walker.observe(coalitions, np.arange(1), needed))
    with pytest.raises(ModelError, match="states of one sequence take"):
        list(game.walker.observe(coalitions, np.arange(1), needed - 1))


@pytest.mark.parametrize("shape", [None, SMALL, BatchShape(64, 4096, 128)])
@pytest.mark.parametrize("state_memory", [None, 60_000])
def test_no_batch_shape_and_no_memory_changes_the_value_of_blocks(shape, state_memory, rng):
    model, tokens = model_of("llama"), texts()
    stack = find_players(model, "sublayer")
    game = ModelGame(model, tokens, stack=stack, shape=shape, state_memory=state_memory)
    coalitions = some_coalitions(rng, stack, 30)
    assert_close(observe_all(game, coalitions), plainly(model, stack, coalitions, tokens))


def test_blocks_agree_with_the_model_in_half_precision_within_its_rounding(rng):
    model, tokens = model_of("llama").to(torch.bfloat16), texts()
    stack = find_players(model, "sublayer")
    game = ModelGame(model, tokens, stack=stack, shape=SMALL)
    assert game.mode == "shared prefixes"
    coalitions = some_coalitions(rng, stack)
    found, expected = observe_all(game, coalitions), plainly(model, stack, coalitions, tokens)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=0, atol=2e-2)


def test_a_layer_is_worth_its_two_blocks(rng):
    model, tokens = model_of("qwen3"), texts()
    layers = some_coalitions(rng, find_players(model))
    blocks = ModelGame(model, tokens, stack=find_players(model, "sublayer"))
    assert_close(
        observe_all(blocks, np.repeat(layers, 2, axis=1)),
        observe_all(ModelGame(model, tokens), layers),
    )


def test_nothing_of_the_model_changes_when_the_caller_stops_between_blocks(rng):
    model = model_of("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stack = find_players(model, "sublayer")
    game = ModelGame(model, texts(), stack=stack, shape=SMALL, state_memory=40_000)
    for _ in game.observe(some_coalitions(rng, stack, 30), np.arange(5)):
        assert all("forward" not in vars(module) for module in model.modules())
        break
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", ["gptj", "cohere"])
def test_blocks_that_share_their_input_are_played_one_coalition_at_a_time_aloud(family, rng):
    model, tokens = model_of(family), texts()
    stack = find_players(model, "sublayer")
    game = ModelGame(model, tokens, stack=stack)
    assert game.mode.startswith("one coalition at a time: layer 0 is not its attention followed by")
    assert "shares no work" in game.remarks[0]
    coalitions = some_coalitions(rng, stack)
    assert_close(observe_all(game, coalitions), plainly(model, stack, coalitions, tokens))
    assert game.spent.layer_tokens == game.plan(coalitions).layer_tokens_asked


def test_blocks_whose_chain_is_not_the_model_are_caught_by_the_losses_too(monkeypatch):
    monkeypatch.setattr(BlockSteps, "_check", lambda self, tokens: None)
    model = model_of("gptj")
    game = ModelGame(model, texts(), stack=find_players(model, "sublayer"))
    assert "layers run apart from the model differ from it by" in game.mode
