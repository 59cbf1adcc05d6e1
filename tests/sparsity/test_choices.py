"""Variants observed together are what the model would do with those weights; nothing is changed."""

import copy
import weakref

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from coterie.engine.batch_shape import BatchShape
from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import observe_all
from coterie.models.loaded.stack import find_stack
from coterie.sparsity import variant_cache
from coterie.sparsity.bounds import Bounds, SparsityError
from coterie.sparsity.calibration import Calibration, PruningTask
from coterie.sparsity.ecoflap import ecoflap, zeroth_order_scores
from coterie.sparsity.layerwise import prune_layer, prune_layers, put
from coterie.sparsity.levels import Pattern
from coterie.sparsity.owl import outlier_ratios
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import GONE, find_units
from coterie.sparsity.variant_cache import PassingVariants, VariantCache
from coterie.sparsity.variant_game import CUT, ChoiceGame, JudgedModel, other_weights

SHAPE = BatchShape(4, 64, 64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 60, size=(6, 12)))


def pruning(model, tokens, pruner="wanda"):
    return PruningTask(model, find_stack(model), tokens, find_pruner(pruner))


def judged(model, tokens, memory=None):
    return JudgedModel(model, find_stack(model), tokens, SHAPE, memory)


def cached_game(model, tokens, folder, pruner="wanda", players="layer", group=None, memory=2**20):
    units = find_units(model, find_stack(model), players, group)
    cache = VariantCache(pruning(model, tokens, pruner), units, folder=folder, memory=memory)
    return units, cache, ChoiceGame(judged(model, tokens), cache)


def test_kept_or_cut_is_the_game_of_coalitions(model, tokens, tmp_path):
    _, _, game = cached_game(model, tokens, tmp_path)
    coalitions = np.random.default_rng(1).random((9, 4)) < 0.6
    seen = game.observe(np.where(coalitions, 0, CUT))
    known = observe_all(ModelGame(model, tokens), coalitions)
    np.testing.assert_allclose(seen.nll, known.nll, atol=1e-5)
    np.testing.assert_allclose(seen.kl, known.kl, atol=1e-5)


@pytest.mark.parametrize("pruner", ["magnitude", "wanda"])
@pytest.mark.parametrize("players", ["layer", "sublayer"])
def test_a_candidate_is_the_model_with_those_weights(model, tokens, tmp_path, pruner, players):
    units, cache, game = cached_game(model, tokens, tmp_path, pruner, players)
    levels = np.random.default_rng(2).integers(0, 36, size=(5, len(units.weights)))
    seen = game.observe(units.choices(levels))
    for row, candidate in enumerate(units.choices(levels)):
        other = copy.deepcopy(model)
        stack = find_stack(other)
        for layer, choice in enumerate(candidate):
            for name, tensor in cache(layer, int(choice)).items():
                stack.layers[layer].get_parameter(name).data.copy_(tensor)
        with torch.no_grad():
            loss = other(input_ids=tokens, labels=tokens).loss.item()
        assert seen.nll[row].mean() == pytest.approx(loss, abs=1e-5)
        share = sum(
            float((p == 0).float().mean() * p.numel())
            for layer in stack.layers
            for p in layer.parameters()
            if p.dim() == 2
        )
        wanted = levels[row] / units.steps @ units.weights
        assert share == pytest.approx(wanted, abs=len(units.weights) * 7)


def test_prefixes_are_run_once_and_no_weight_changes(model, tokens, tmp_path):
    before = {name: p.clone() for name, p in model.named_parameters()}
    objects = {name: id(p) for name, p in model.named_parameters()}
    units, cache, game = cached_game(model, tokens, tmp_path, memory=0)
    game.observe(np.zeros((1, 4), dtype=np.intp))
    done = game.spent.layer_executions
    levels = np.array([[20, 20, 20, 10], [20, 20, 20, 30], [20, 20, 10, 20]])
    first = game.observe(units.choices(levels))
    assert game.spent.layer_executions - done == 1 + 1 + 2 + 3
    made = cache.made
    again = game.observe(units.choices(levels))
    assert cache.made == made and len(list(tmp_path.glob("[0-9]*"))) == made  # all from files
    np.testing.assert_array_equal(first.nll, again.nll)
    for name, parameter in model.named_parameters():
        assert id(parameter) == objects[name] and torch.equal(parameter, before[name])


def test_where_not_one_candidate_fits_texts_go_in_turns(model, tokens, tmp_path):
    units, cache, game = cached_game(model, tokens, tmp_path)
    choices = units.choices(np.array([[20, 8, 20, 10], [20, 20, 20, 30]]))
    one_state = tokens.shape[1] * 16 * 4
    tight = ChoiceGame(judged(model, tokens, 2 * 2 * one_state), cache)
    whole, parts = game.observe(choices), tight.observe(choices)
    np.testing.assert_allclose(parts.nll, whole.nll, atol=1e-6)
    np.testing.assert_allclose(parts.kl, whole.kl, atol=1e-6)
    assert sorted(len(key) for key in tight.readings) == [2, 2, 2]


def test_a_layers_own_weights_are_back_whatever_happens(model):
    layer = find_stack(model).layers[0]
    own = layer.mlp.up_proj.weight

    def interrupted():
        with other_weights(layer, {"mlp.up_proj.weight": torch.zeros(24, 16)}):
            assert not layer.mlp.up_proj.weight.any()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert layer.mlp.up_proj.weight is own


def test_a_unit_that_is_gone_takes_its_layer_with_it(model, tokens, tmp_path):
    units, _, _ = cached_game(model, tokens, tmp_path)
    assert units.choices(np.array([[3, GONE, 0, 40]])).tolist() == [[3, CUT, 0, 40]]


def test_patterns_have_an_n_of_their_own(model, tokens, tmp_path):
    units, cache, _ = cached_game(model, tokens, tmp_path, group=8)
    assert units.of_choice(1, 3) == Pattern(5, 8)
    weight = cache(1, 3)["mlp.up_proj.weight"].reshape(-1, 8)
    assert ((weight == 0).sum(dim=1) == 3).all()


@pytest.mark.parametrize("pruner", ["wanda", "sparsegpt"])
def test_statistics_and_variants_are_the_same_from_memory_and_from_files(
    model, tokens, tmp_path, pruner, monkeypatch
):
    places, load = set(), variant_cache.load_file
    monkeypatch.setattr(
        variant_cache,
        "load_file",
        lambda file, device: places.add(device) or load(file, device=device),
    )
    (tmp_path / "files").mkdir()
    many = torch.cat([tokens, tokens.flip(1)])
    units, held, _ = cached_game(model, many, tmp_path, pruner)
    _, filed, _ = cached_game(model, many, tmp_path / "files", pruner, memory=0)
    passing = PassingVariants(held.task, units)
    assert not list(tmp_path.glob("*.safetensors"))
    assert len(list((tmp_path / "files").iterdir())) == 4
    for layer in range(4):
        passing.arrived(layer)
        for one, other in zip(held.statistics(layer), filed.statistics(layer), strict=True):
            assert one.rows == other.rows > 0 and torch.equal(one.squares, other.squares)
            assert pruner == "wanda" or torch.equal(one.hessian, other.hessian)
        variants = [cache(layer, 24) for cache in (held, filed, passing)]
        for name, tensor in variants[0].items():
            assert all(torch.equal(tensor, variant[name]) for variant in variants[1:])
    assert places == {str(model.device)}


def test_statistics_of_one_layer_are_held_at_a_time(model, tokens, monkeypatch):
    alive, measure = [], Calibration.measure

    def counted(self, *given):
        alive.append(sum(one() is not None for one in known))
        found = measure(self, *given)
        known.extend(weakref.ref(one) for one in found)
        return found

    known = []
    monkeypatch.setattr(Calibration, "measure", counted)
    task = pruning(model, tokens, "sparsegpt")
    cache = PassingVariants(task, find_units(model, task.stack))
    for layer in range(4):
        cache.arrived(layer)
    assert len(known) == 4 * 7
    del cache
    list(prune_layers(pruning(model, tokens.repeat(2, 1), "sparsegpt"), [0.0] * 4))
    assert alive == [0] * 8


def test_state_memory_bounds_the_candidates_walked_together(model, tokens, tmp_path):
    units, _, game = cached_game(model, tokens, tmp_path)
    choices = units.choices(np.random.default_rng(3).integers(0, 36, size=(9, 4)))
    seen, alone = game.observe(choices), []
    few = ChoiceGame(judged(model, tokens, 1), game.variant)
    walk = few._walk
    few._walk = lambda prelude, rows: alone.append(len(rows)) or walk(prelude, rows)
    np.testing.assert_allclose(few.observe(choices).nll, seen.nll, atol=1e-6)
    assert max(alone) <= 2  # one, and once the unpruned model beside it


def test_outliers_raise_their_layers_ratio(model, tokens):
    units = find_units(model, find_stack(model))
    plain = outlier_ratios(pruning(model, tokens), units)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[2].mlp.up_proj.weight[0, 0] = 40.0
        other.model.layers[2].mlp.gate_proj.weight[3, 5] = 40.0
    assert outlier_ratios(pruning(other, tokens), units)[2] != plain[2]
    assert ((plain >= 0) & (plain < 0.2)).all()


def test_a_map_no_input_reached_counts_as_one_that_usual_inputs_reach():
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=5,
        num_experts_per_tok=2,
    )
    mixtral = MixtralForCausalLM(config).eval()
    tokens = torch.arange(24).reshape(2, 12)
    gate = mixtral.model.layers[0].mlp.gate.weight.data
    everyone = gate.clone()
    ratios = []
    for none_chosen in (False, True):
        gate.copy_(everyone)
        if none_chosen:
            gate[1], gate[3], gate[4] = -gate[0], -gate[2], 0.0
        stack = find_stack(mixtral)
        mixtral.model.layers[0].post_attention_layernorm.weight.data.fill_(0.01)
        ratios += outlier_ratios(pruning(mixtral, tokens), find_units(mixtral, stack)).tolist()
    assert ratios[1] == pytest.approx(ratios[0], abs=0.02)


def test_blocks_that_leave_maps_outside_are_refused(model):
    layer = copy.deepcopy(model).model.layers[0]
    other = copy.deepcopy(model)
    other.model.layers[0] = layer
    layer.bypass = torch.nn.Linear(16, 16)
    with pytest.raises(SparsityError, match="outside its attention and feed-forward blocks"):
        find_units(other, find_stack(other), "sublayer")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_zeroth_order_score_is_near_the_gradients(model, tokens, dtype):
    coarse = copy.deepcopy(model).to(dtype)
    units = find_units(coarse, find_stack(coarse))
    scores, spent = zeroth_order_scores(judged(coarse, tokens), units, seed=0)
    stack = find_stack(model)
    exact = []
    model.zero_grad()
    model(input_ids=tokens, labels=tokens).loss.backward()
    for layer in stack.layers:
        maps = [p for p in layer.parameters() if p.dim() == 2]
        size = sum(p.detach().square().sum() for p in maps).sqrt()
        exact.append(float(size * sum(p.grad.square().sum() for p in maps).sqrt()))
    model.zero_grad(set_to_none=True)
    ratio = scores / np.array(exact)
    assert ((ratio > 0.5) & (ratio < 1.6)).all()  # a chi with 16 degrees of freedom
    assert spent.layer_tokens > 0
    sparsity = ecoflap(scores, units.weights, 0.5, bounds=Bounds())
    assert np.argmax(sparsity) == np.argmin(scores) and sparsity.max() <= 0.6 + 1e-9


def test_a_layer_put_into_the_model_is_what_the_game_showed(model, tokens, tmp_path):
    units, cache, game = cached_game(model, tokens, tmp_path)
    seen = game.observe(units.choices(np.array([[24, 0, 0, 0]]))).nll
    other = copy.deepcopy(model)
    stack = find_stack(other)
    put(stack, prune_layer(stack, 0, 0.6, cache.task.pruner, cache.statistics(0)))
    with torch.no_grad():
        loss = other(input_ids=tokens, labels=tokens).loss.item()
    assert seen.mean() == pytest.approx(loss, abs=1e-5)
