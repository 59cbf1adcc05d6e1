"""What every repair keeps to, whatever it refits."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.repair.laws import N_LAYERS, made, texts, with_linear_gap
from transformers import AutoModelForCausalLM

from coterie.errors import RepairError
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import find_stack
from coterie.repair import place as place_module
from coterie.repair import walk as walk_module
from coterie.repair.changes import applied
from coterie.repair.choose import repaired, repaired_weights
from coterie.repair.gaps import losses_by_gap
from coterie.repair.repairable import WholeModel, cut_loss
from coterie.repair.table import REPAIRS
from coterie.repair.walk import Walk
from coterie.repair.write import as_stored, write_repaired

EVERYONE = tuple(range(N_LAYERS))
CUT = (0, 1, 3, 4)
"""Layer 2 goes."""


@pytest.mark.parametrize("name", REPAIRS)
def test_where_nothing_is_cut_nothing_changes(name):
    model, stack = made("llama")
    weights, refitted = repaired_weights(
        WholeModel(model, stack), EVERYONE, texts(model, 8), REPAIRS[name]
    )
    assert weights == {} and refitted == ()


@pytest.mark.parametrize("name", ["down", "both", "progressive"])
def test_a_gap_that_is_linear_in_what_is_refitted_costs_nothing(name):
    model, stack = with_linear_gap()
    fit, select = texts(model, 48), texts(model, 12, seed=1)
    done = repaired(WholeModel(model, stack), CUT, (fit, select), name)
    full = cut_loss(model, stack, EVERYONE, select, {}).mean()
    lost = done.loss.mean() - full
    assert done.name == name and lost > 1e-2
    assert done.losses[name].mean() - full < 1e-3 * lost


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "gemma3_text", "mamba", "opt"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_maps_are_refitted_in_every_precision(kind, dtype):
    refitted = []
    for one in (torch.float32, dtype):
        model, stack = made(kind)
        fit = texts(model, 64)
        _, found = repaired_weights(
            WholeModel(model.to(one), stack), CUT, fit, REPAIRS["progressive"]
        )
        refitted.append([(each.layer, each.maps) for each in found])
    assert refitted[0] == refitted[1] and refitted[0]


def test_a_gap_closed_in_part_is_closed_by_the_layers_behind_it():
    model, stack = made("llama")
    fit, select = texts(model, 64), texts(model, 12, seed=1)
    weights, refitted = repaired_weights(
        WholeModel(model, stack), (0, 2, 3, 4), fit, REPAIRS["spread"]
    )
    behind = [one for one in refitted if one.layer > 0]
    assert {one.layer for one in behind} == {2, 3, 4}
    full = _states(model, stack, EVERYONE, select, {})
    as_cut = (_states(model, stack, (0, 2, 3, 4), select, {}) - full).norm()
    assert (_states(model, stack, (0, 2, 3, 4), select, weights) - full).norm() < as_cut


@pytest.mark.parametrize(("kept", "gone"), [((0, 2, 4), [(1,), (3,)]), ((1, 4), [(0,), (2, 3)])])
def test_the_gaps_together_give_back_what_the_repair_does(kept, gone):
    model, stack = made("llama")
    select = texts(model, 4, seed=1)
    whole, fit = WholeModel(model, stack), texts(model, 32)
    weights, _ = repaired_weights(whole, kept, fit, REPAIRS["progressive"])
    as_cut, gains = losses_by_gap(whole, kept, select, weights)
    assert [one.gone for one in gains] == gone
    assert as_cut == cut_loss(model, stack, kept, select, {}).mean()
    assert gains[-1].loss == cut_loss(model, stack, kept, select, weights).mean()
    behind = gone[0][-1] + 1
    first = {name: one for name, one in weights.items() if int(name.split(".")[2]) <= behind}
    assert first and gains[0].loss == cut_loss(model, stack, kept, select, first).mean()


@pytest.mark.parametrize("name", REPAIRS)
def test_the_model_is_left_as_it_was(name):
    model, stack = made("llama")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    repaired(WholeModel(model, stack), CUT, (texts(model, 32), texts(model, 4, seed=1)), name)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "gemma3_text", "mamba", "opt"])
def test_families_of_every_build_come_nearer_to_the_full_model(kind):
    model, stack = made(kind)
    fit, select = texts(model, 64), texts(model, 8, seed=1)
    weights, refitted = repaired_weights(WholeModel(model, stack), CUT, fit, REPAIRS["progressive"])
    assert any(one.explained > 0.02 for one in refitted)
    assert all(one.tokens == fit.size for one in refitted)
    full = _states(model, stack, EVERYONE, select, {})
    as_cut = (_states(model, stack, CUT, select, {}) - full).norm()
    assert (_states(model, stack, CUT, select, weights) - full).norm() < as_cut


def _states(model, stack, kept, tokens, weights):
    """What the last layer hands on."""
    seen = []
    handle = stack.layers[kept[-1]].register_forward_hook(
        lambda _, args, out: seen.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    coalition = [layer in kept for layer in range(stack.n_players)]
    with applied(model, weights), routed(model, stack, coalition), torch.no_grad():
        model(input_ids=torch.from_numpy(tokens), use_cache=False)
    handle.remove()
    return seen[0]


def test_kept_layers_between_two_gaps_run_in_their_order():
    model, stack = made("llama", n_layers=7)
    kept, tokens = (0, 2, 3, 4, 6), texts(model, 4)
    found = Walk(WholeModel(model, stack), kept, torch.from_numpy(tokens)).end()
    torch.testing.assert_close(found, _states(model, stack, kept, tokens, {}))


@pytest.mark.parametrize("kept", [(1, 2, 4), (2, 3, 4), (1, 2, 3, 4)])
def test_without_the_first_layers_the_refit_comes_close_to_the_full_models_states(kept):
    model, stack = made("llama")
    tokens, seen = texts(model, 48), {}

    def noted(place):
        if place.gap == 0 and place.behind:
            # A copy: these tables are used again.
            seen[place.turn.layer] = place.after_parts()[-1].clone()

    noting = replace(REPAIRS["progressive"], at=noted)
    repaired_weights(WholeModel(model, stack), kept, tokens, noting)
    assert seen
    for layer, wanted in seen.items():
        full = _states(model, stack, range(layer + 1), tokens, {})
        torch.testing.assert_close(wanted, full, rtol=1e-4, atol=1e-5)


def test_a_repair_that_harms_is_refused(monkeypatch):
    model, stack = made("llama")
    with torch.no_grad():  # the state of one token is a thousand times larger than any other
        model.get_input_embeddings().weight[7] *= 1e3
    fit, select = texts(model, 48), texts(model, 12, seed=1)
    fit[:, ::2] = 7
    monkeypatch.setattr(place_module, "token_weights", lambda wanted: torch.ones(wanted.shape[:-1]))
    monkeypatch.setattr("coterie.repair.least_squares.RIDGES", (1e-6,))
    monkeypatch.setattr("coterie.repair.least_squares.USUAL", 1e-6)
    monkeypatch.setattr("coterie.repair.least_squares.Sums.explains", lambda *_: 1.0)
    done = repaired(WholeModel(model, stack), CUT, (fit, select), "down")
    assert done.losses["down"].mean() > done.loss.mean()
    assert done.name == "none" and done.weights == {} and done.gain == 0
    assert "down is not applied" in done.remarks[0]


def test_texts_in_small_batches_give_the_same_weights(monkeypatch):
    model, stack = made("llama")
    fit = texts(model, 32)
    once, _ = repaired_weights(WholeModel(model, stack), CUT, fit, REPAIRS["progressive"])
    monkeypatch.setattr(walk_module, "TOKENS_A_CALL", 5 * fit.shape[1])
    batched, _ = repaired_weights(WholeModel(model, stack), CUT, fit, REPAIRS["progressive"])
    assert once.keys() == batched.keys() and once
    for name, value in once.items():
        torch.testing.assert_close(batched[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_repairs_nearly_as_well(dtype):
    model, stack = with_linear_gap()
    fit, select = texts(model, 48), texts(model, 12, seed=1)
    full = cut_loss(model, stack, EVERYONE, select, {}).mean()
    model.to(dtype)
    done = repaired(WholeModel(model, stack), CUT, (fit, select), "progressive")
    assert all(value.dtype == dtype for value in done.weights.values())
    assert done.losses["progressive"].mean() - full < 0.1 * (done.loss.mean() - full)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("llama", "progressive"), ("llama", "scalar"), ("gpt2", "both"), ("gemma3_text", "map")],
)
def test_a_repaired_checkpoint_does_what_was_measured(kind, name, tmp_path):
    model, _ = made(kind)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "whole")
    source = resolve(str(tmp_path / "whole"))
    model = load_model(source, dtype=torch.float32, device="cpu")
    stack, fit = find_stack(model), texts(model, 48)
    weights, _ = repaired_weights(WholeModel(model, stack), CUT, fit, REPAIRS[name])
    assert weights
    weights = as_stored(source, stack, weights)
    (tmp_path / "repaired").mkdir()
    write_repaired(source, stack, CUT, tmp_path / "repaired", weights)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "repaired", dtype=torch.float32)
    tokens = torch.from_numpy(fit[:4])
    coalition = [layer in CUT for layer in EVERYONE]
    with torch.no_grad():
        with applied(model, weights), routed(model, stack, coalition):
            wanted = model(input_ids=tokens, use_cache=False).logits
        found = again(input_ids=tokens, use_cache=False).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    write_cut(source, CUT, tmp_path / "cut")
    configs = [
        json.loads((tmp_path / folder / "config.json").read_text())
        for folder in ("cut", "repaired")
    ]
    assert configs[0] == configs[1]
    entries = [
        [(entry.name, entry.shape, entry.dtype) for entry in resolve(str(tmp_path / which)).entries]
        for which in ("cut", "repaired")
    ]
    assert entries[0] == entries[1]


@pytest.mark.parametrize("kept", [(1, 2, 3, 4), (0, 1, 2), (2,), (1, 3)])
@pytest.mark.parametrize("name", REPAIRS)
def test_gaps_at_the_ends_are_repaired_where_they_can_be(kept, name):
    model, stack = made("llama")
    done = repaired(
        WholeModel(model, stack), kept, (texts(model, 48), texts(model, 4, seed=1)), name
    )
    before_a_gap = {layer for layer in kept if layer + 1 not in kept and layer + 1 < N_LAYERS}
    before_a_gap |= {kept[-1]} - {N_LAYERS - 1}
    if name == "down" and not before_a_gap:
        assert done.name == "none" and np.array_equal(done.losses[name], done.loss)
    assert done.gain >= 0


def test_auto_takes_the_lowest_loss():
    model, stack = with_linear_gap()
    done = repaired(
        WholeModel(model, stack), CUT, (texts(model, 48), texts(model, 12, seed=1)), "auto"
    )
    assert done.losses[done.name].mean() == min(one.mean() for one in done.losses.values())
    assert (
        repaired(WholeModel(model, stack), CUT, (texts(model, 8), texts(model, 4)), "none").losses
        == {}
    )


def test_what_cannot_be_repaired_is_said_in_one_line():
    model, stack = made("llama")
    few = texts(model, 2)
    with pytest.raises(RepairError, match=r"48 tokens are too few to refit the 64 columns of"):
        repaired_weights(WholeModel(model, stack), CUT, few, REPAIRS["down"])
    with pytest.raises(RepairError, match="'upward' is unknown: choose one of auto, none, scalar"):
        repaired(WholeModel(model, stack), CUT, (few, few), "upward")
    fit = texts(model, 32)
    mixture, its = made("mixtral")
    with pytest.raises(RepairError, match="layer 1 does not end in one linear map"):
        repaired_weights(WholeModel(mixture, its), CUT, fit, REPAIRS["down"])
    with torch.no_grad():
        stack.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(RepairError, match=r"layer 1 hands on is not finite in torch\.float32"):
        repaired_weights(WholeModel(model, stack), CUT, fit, REPAIRS["down"])
