"""The engine gives every coalition the value of the model cut to it, whatever the family."""

import numpy as np
import pytest
import torch
from tests.engine import oracle
from tests.engine.oracle import SMALL, texts
from torch import nn
from transformers import AutoModelForCausalLM

from coterie.engine import model_game as engine
from coterie.engine.batch_shape import BatchShape
from coterie.engine.model_game import ModelGame
from coterie.errors import ModelError, TextError
from coterie.game.coalitions import Observations, observe_all
from coterie.models.cutting.in_memory import cut_model
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_model

FAMILIES = [
    "llama", "gpt2", "qwen3", "gemma3_text", "gemma2", "mixtral", "mamba", "mamba2", "falcon_h1",
    "jamba", "bloom", "granite", "cohere", "rwkv", "gpt_oss", "opt", "recurrent_gemma",
]  # fmt: skip


def model_of(family, n_layers=5):
    return oracle.model_of(family, n_layers)


def some_coalitions(rng, stack, n=8):
    return oracle.some_coalitions(rng, stack, n)


def plainly(model, coalitions, tokens):
    return oracle.plainly(model, find_stack(model), coalitions, tokens)


def assert_close(found, expected, room=1e-6):
    oracle.assert_close(found, expected, room)


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prefixes_change_no_value(family, rng):
    model, tokens = model_of(family), texts()
    game = ModelGame(model, tokens, shape=SMALL)
    assert game.mode == "shared prefixes"
    coalitions = some_coalitions(rng, game.stack)
    expected = plainly(model, coalitions, tokens)
    assert np.ptp(expected.nll) > 1e-3  # else the test could not fail
    assert_close(observe_all(game, coalitions), expected, room=5e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "mamba2", "gemma3_text"])
def test_the_value_is_that_of_the_checkpoint_cut_and_reloaded(family, rng, tmp_path):
    model, tokens = model_of(family), texts()
    game = ModelGame(model, tokens)
    coalition = some_coalitions(rng, game.stack, 1)
    found = observe_all(game, coalition).nll[0]
    cut_model(model, np.flatnonzero(coalition[0]).tolist()).save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = reloaded(tokens).logits[:, :-1]
    loss = nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    np.testing.assert_allclose(found, loss.mean(dim=1), rtol=0, atol=1e-5)


def test_the_full_model_agrees_with_itself():
    model = model_of("llama")
    seen = observe_all(ModelGame(model, texts()), np.ones((1, 5), dtype=bool))
    np.testing.assert_allclose(seen.kl, 0, atol=1e-6)
    np.testing.assert_array_equal(seen.top1, 1)


@pytest.mark.parametrize("shape", [None, SMALL, BatchShape(1, 5, 17), BatchShape(64, 4096, 128)])
@pytest.mark.parametrize("state_memory", [None, 60_000])
def test_no_batch_shape_and_no_memory_changes_a_value(shape, state_memory, rng):
    model, tokens = model_of("llama"), texts()
    game = ModelGame(model, tokens, shape=shape, state_memory=state_memory)
    coalitions = some_coalitions(rng, game.stack, 30)
    assert_close(observe_all(game, coalitions), plainly(model, coalitions, tokens))


def test_a_value_does_not_depend_on_what_else_is_asked(rng):
    game = ModelGame(model_of("qwen3"), texts())
    coalitions = some_coalitions(rng, game.stack, 20)
    together = observe_all(game, coalitions)
    assert_close(
        observe_all(game, coalitions[3:5], np.array([3, 1])), _at(together, [3, 4], [3, 1])
    )


def _at(seen, rows, columns):
    corner = np.ix_(rows, columns)
    return Observations(seen.nll[corner], seen.kl[corner], seen.top1[corner])


def test_blocks_tile_the_rectangle_once_and_the_spending_is_the_plan(rng):
    game = ModelGame(model_of("llama"), texts(), shape=SMALL, state_memory=40_000)
    coalitions = some_coalitions(rng, game.stack, 25)
    seen = np.zeros((len(coalitions), 4), dtype=int)
    for block in game.observe(coalitions, np.array([4, 0, 1, 2])):
        seen[np.ix_(block.rows, block.columns)] += 1
    assert (seen == 1).all()
    planned = game.plan(coalitions, 4)
    assert game.spent.layer_executions == planned.layer_executions
    assert game.spent.layer_tokens == planned.layer_tokens_executed
    assert game.spent.head_tokens == planned.head_tokens


def test_nothing_of_the_model_changes_when_the_caller_stops_early(rng):
    model = model_of("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    game = ModelGame(model, texts(), shape=SMALL, state_memory=40_000)
    for _ in game.observe(some_coalitions(rng, game.stack, 30), np.arange(5)):
        break
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_nothing_of_the_model_changes_when_a_layer_raises(rng):
    model = model_of("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    game = ModelGame(model, texts(), shape=SMALL)

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = model.model.layers[3].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        observe_all(game, some_coalitions(rng, game.stack, 30))
    handle.remove()
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Narrow(nn.Module):
    """A layer on a device too small for more than some rows at once."""

    def __init__(self, layer, most):
        super().__init__()
        self.layer, self.most, self.refused = layer, most, 0

    def forward(self, hidden_states, *args, **kwargs):
        if len(hidden_states) > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("pretended")
        return self.layer(hidden_states, *args, **kwargs)


@pytest.mark.parametrize("rows", [5, 20])
def test_a_batch_that_does_not_fit_is_halved_for_good(rows, rng):
    model, tokens = model_of("llama"), texts()
    narrow = Narrow(model.model.layers[2], 2)
    game = ModelGame(model, tokens, shape=BatchShape(rows, 64, 128))
    coalitions = some_coalitions(rng, game.stack, 20)
    expected = plainly(model, coalitions, tokens)
    model.model.layers[2] = narrow
    patched = ModelGame(model, tokens, shape=BatchShape(rows, 64, 128))
    assert_close(observe_all(patched, coalitions), expected)
    assert patched.shape.rows <= 2
    assert 1 <= narrow.refused <= 5


def test_states_that_cannot_fit_one_sequence_are_refused_with_the_bytes(rng):
    game = ModelGame(model_of("llama"), texts(), state_memory=1000)
    with pytest.raises(ModelError, match=r"take [\d,]+ bytes, 1,000 are free"):
        observe_all(game, some_coalitions(rng, game.stack))


THREE = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 1], [1, 0, 0, 1, 1]], dtype=bool)


def overflow_behind(before, layer, tokens):
    """Let a Llama's layer overflow wherever its input comes straight from layer 0 of ``before``."""
    with torch.no_grad():
        embedded = before.model.embed_tokens(tokens)
        places = before.model.rotary_emb(embedded, torch.arange(tokens.shape[1])[None])
        only = before.model.layers[0](embedded, position_embeddings=places)

    def overflow(module, args, output):
        # Of three coalitions, one alone hands layer 3 what layer 0 made.
        broken = [any(torch.allclose(row, bad) for bad in only) for row in args[0]]
        return torch.where(torch.tensor(broken)[:, None, None], torch.inf, output)

    layer.register_forward_hook(overflow)


BROKEN = (
    "coalition 10011 has loss nan on 5 of 5 sequences, on sequence 0 first not finite after layer"
    " 3: stored as it is, read as the floor"
)


@pytest.mark.parametrize("apart", [True, False])
def test_a_layer_that_breaks_down_spoils_only_the_coalitions_that_reach_it(apart):
    model, tokens = model_of("llama"), texts()
    if not apart:
        forward = model.forward
        model.forward = lambda *a, **k: _squared(forward(*a, **k))
    game = ModelGame(model, tokens)
    assert (game.walker is not None) is apart
    expected = plainly(model, THREE, tokens)
    before = len(game.remarks)
    overflow_behind(model, model.model.layers[3], tokens)
    seen = observe_all(game, THREE)
    assert not np.isfinite(seen.nll[2]).any()
    np.testing.assert_allclose(seen.nll[:2], expected.nll[:2], atol=1e-6)
    assert game.remarks[before:] == [BROKEN]


def test_of_blocks_the_whole_layer_that_breaks_down_is_named():
    model, tokens = model_of("llama"), texts()
    game = ModelGame(model, tokens, stack=find_players(model, "sublayer"))
    coalitions = np.repeat(THREE, 2, axis=1)
    expected = observe_all(game, coalitions)
    overflow_behind(model, model.model.layers[3], tokens)
    seen = observe_all(game, coalitions)
    np.testing.assert_allclose(seen.nll[:2], expected.nll[:2], atol=1e-6)
    assert len(game.remarks) == 1
    assert "1100001111 has loss nan on 5 of 5 sequences, on sequence 0 first" in game.remarks[0]
    assert "after layer 3" in game.remarks[0]


def test_a_head_that_breaks_down_is_told_from_a_layer():
    model, tokens = model_of("llama"), texts()
    game = ModelGame(model, tokens)
    observe_all(game, THREE[:1])  # reads the full model, which stays what it is
    model.model.norm.register_forward_hook(lambda module, args, output: output * torch.nan)
    observe_all(game, THREE[1:])
    assert "on 5 of 5 sequences, on sequence 0 in the head" in game.remarks[0]


@pytest.mark.parametrize("apart", [True, False])
def test_a_coalition_that_breaks_down_is_looked_at_once(apart, monkeypatch):
    model, tokens = model_of("llama"), texts()
    if not apart:
        forward = model.forward
        model.forward = lambda *a, **k: _squared(forward(*a, **k))
    game = ModelGame(model, tokens, shape=SMALL, state_memory=40_000)  # texts go in turns
    looked, before = [], len(game.remarks)
    monkeypatch.setattr(engine, "broken_layer", lambda *given: looked.append(given[2]))
    overflow_behind(model, model.model.layers[3], tokens)
    observe_all(game, THREE)
    assert len(looked) == 1
    assert len(game.remarks) == before + 1 and "on 5 of 5 sequences" in game.remarks[-1]


def test_a_full_model_without_a_finite_loss_is_refused():
    model = model_of("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="full model's loss on sequence 0 is nan, not finite"):
        ModelGame(model, texts())


def test_a_model_that_cannot_be_taken_apart_is_evaluated_plainly_and_says_so(rng):
    model, tokens = model_of("llama"), texts()
    forward = model.forward
    model.forward = lambda *a, **k: _squared(forward(*a, **k))  # a head no chain of modules gives
    game = ModelGame(model, tokens)
    assert game.mode.startswith("one coalition at a time: its logits are neither")
    assert "shares no work" in game.remarks[0]
    coalitions = some_coalitions(rng, game.stack)
    assert_close(observe_all(game, coalitions), plainly(model, coalitions, tokens))
    assert game.spent.layer_tokens == game.plan(coalitions).layer_tokens_asked


def _squared(output):
    output.logits = output.logits**2
    return output


def test_half_precision_agrees_with_the_model_within_its_rounding(rng):
    model, tokens = model_of("llama").to(torch.bfloat16), texts()
    game = ModelGame(model, tokens, shape=SMALL)
    coalitions = some_coalitions(rng, game.stack)
    found, expected = observe_all(game, coalitions), plainly(model, coalitions, tokens)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=0, atol=2e-2)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=0, atol=2e-2)


def test_without_kl_only_kl_is_missing(rng):
    model = model_of("llama")
    coalitions = some_coalitions(rng, find_stack(model))
    without = observe_all(ModelGame(model, texts(), kl=False), coalitions)
    with_kl = observe_all(ModelGame(model, texts()), coalitions)
    assert np.isnan(without.kl).all()
    np.testing.assert_array_equal(without.nll, with_kl.nll)
    np.testing.assert_array_equal(without.top1, with_kl.top1)


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        (torch.zeros(4, dtype=torch.long), r"shape \(4,\)"),
        (torch.zeros(2, 1, dtype=torch.long), "at least two tokens"),
        (torch.zeros(2, 4), "type torch.float32"),
        (torch.full((2, 4), 128), "run from 128 to 128, the model's vocabulary has 128"),
    ],
)
def test_tokens_that_are_not_the_models_are_refused(tokens, complaint):
    with pytest.raises(TextError, match=complaint):
        ModelGame(tiny_model("llama", 2), tokens)


@pytest.mark.parametrize(
    ("family", "longest"), [("gpt2", 256), ("opt", 256), ("xlm-roberta", 254), ("gptj", 256)]
)
def test_texts_longer_than_a_model_has_places_for_are_refused_with_the_limit(family, longest):
    model = tiny_model(family, 2)
    assert ModelGame(model, texts(1, longest)).length == longest
    with pytest.raises(TextError, match=rf"{longest + 1} tokens, .* places for {longest}:"):
        ModelGame(model, texts(1, longest + 1))


def test_rotary_positions_have_no_limit():
    assert ModelGame(tiny_model("llama", 2), texts(1, 300)).length == 300


def test_what_is_not_a_coalition_of_this_game_is_refused():
    game = ModelGame(tiny_model("llama", 2), texts())
    with pytest.raises(ValueError, match=r"wants \(n_coalitions, 2\)"):
        list(game.observe(np.ones((1, 3), dtype=bool), np.arange(1)))
    with pytest.raises(ValueError, match="asked for twice"):
        list(game.observe(np.ones((2, 2), dtype=bool), np.arange(1)))
    with pytest.raises(ValueError, match="has 5, counted from 0"):
        list(game.observe(np.ones((1, 2), dtype=bool), np.array([5])))


def test_a_shape_survives_being_written_down():
    assert BatchShape.from_dict(SMALL.to_dict()) == SMALL
