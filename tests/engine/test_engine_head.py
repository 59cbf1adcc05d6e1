"""The end of a model is found whatever its dtype, and gives the model's own logits."""

import numpy as np
import pytest
import torch
from tests.engine import oracle
from tests.engine.oracle import SMALL, texts

from coterie.engine.model_game import ModelGame
from coterie.engine.parts.head import find_head
from coterie.game.coalitions import observe_all
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_model

HALVES = [torch.bfloat16, torch.float16]


def assert_as_the_model(model, rng, room):
    game = ModelGame(model, texts(), shape=SMALL)
    assert game.mode == "shared prefixes"
    coalitions = oracle.some_coalitions(rng, game.stack, 8)
    expected = oracle.plainly(model, game.stack, coalitions, texts())
    oracle.assert_close(observe_all(game, coalitions), expected, room)
    return game.walker.head


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["gemma2", "vaultgemma", "recurrent_gemma", "nanochat"])
def test_a_soft_cap_is_recognised_in_half_precision(family, dtype, rng):
    head = assert_as_the_model(tiny_model(family, 4).to(dtype), rng, 1e-3)
    assert head.softcap is not None


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize(
    ("family", "field", "value", "scale"),
    [("granite", "logits_scaling", 10.0, 0.1), ("falcon_h1", "lm_head_multiplier", 0.0195, 0.0195)],
)
def test_a_scale_is_recognised_in_any_precision(family, field, value, scale, dtype, rng):
    model = tiny_model(family, 4)
    for part in (model, model.model):
        setattr(part.config, field, value)
    if family == "falcon_h1":
        model.model.lm_head_multiplier = value
    assert assert_as_the_model(model.to(dtype), rng, 1e-3).scale == scale


@pytest.mark.parametrize("dtype", HALVES)
def test_a_factor_on_the_state_is_as_exact_as_its_rounding(dtype, rng):
    model = tiny_model("minicpm3", 4)
    model.config.dim_model_base = 9  # of a width of 32: no power of two
    head = assert_as_the_model(model.to(dtype), rng, 1e-3)
    assert head.factor == pytest.approx(9 / 32, rel=5e-4)


@pytest.mark.parametrize("family", ["mamba", "mamba2", "falcon_mamba"])
def test_a_norm_in_float32_may_stand_before_a_head_in_half_precision(family, rng):
    assert_as_the_model(tiny_model(family, 4).to(torch.bfloat16), rng, 1e-3)


def test_the_norm_of_a_state_of_unit_size_is_not_taken_for_absent():
    model = tiny_model("llama", 3).to(torch.bfloat16)
    norm = torch.nn.functional.rms_norm
    model.model.layers[2].register_forward_hook(lambda _, __, out: norm(out, out.shape[-1:]))
    assert find_head(model, find_stack(model), texts()).norms == (model.model.norm,)


def test_the_head_is_found_by_a_short_piece_of_a_long_text():
    model, lengths = tiny_model("llama", 2), []
    model.lm_head.register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[1]))
    find_head(model, find_stack(model), texts(2, 200))
    assert max(lengths) <= 64


def test_logits_are_the_models_own_bit_by_bit_in_half_precision():
    model, tokens = tiny_model("gemma2", 2).to(torch.bfloat16), texts()
    head = find_head(model, find_stack(model), tokens)
    with torch.no_grad():
        expected = model(tokens).logits.flatten(0, 1).float()
        states = model.model(tokens).last_hidden_state.flatten(0, 1)
        found = torch.cat([head.logits(states, at, at + 32) for at in (0, 32, 64, 96)], dim=1)
    np.testing.assert_array_equal(found, expected)
