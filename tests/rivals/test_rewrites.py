"""Rivals that change weights: their rule by hand, and checkpoints that load and do it."""

import numpy as np
import pytest
import torch
from tests.rivals.tasks import again, gpt2, make_task, plain_states
from transformers import AutoModelForCausalLM

from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.rivals import RIVALS
from coterie.rivals._merging import Merged, last, summed
from coterie.rivals.interface import DoesNotApply, Meter
from coterie.rivals.replace import fitted, mean_cosines
from coterie.rivals.slicegpt import principal_axes, width_at, write


def saved(model, folder):
    """The model as a checkpoint of float32."""
    model.save_pretrained(folder)
    return resolve(str(folder))


def logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(tokens), use_cache=False).logits


def test_a_merge_takes_in_the_differences():
    merged = summed(Merged.none(5), 1, 2)
    assert merged.places == (0, 1, 4)
    # θ1 + (θ2 − θ1) + (θ3 − θ1)
    assert merged.matrices[1].tolist() == merged.vectors[1].tolist() == [0, -1, 1, 1, 0]
    again_ = summed(merged, 0, 1)
    assert again_.matrices[0].tolist() == merged.matrices[1].tolist()
    assert again_.places == (0, 4) and again_.changed() == [(0, 0)]


def test_the_released_merge_subtracts_from_the_sum_it_is_making():
    torch.manual_seed(0)
    layers = torch.randn(5, 3, 3, dtype=torch.float64)
    copy = layers.clone()
    for taken in (2, 3):
        copy[1].add_(layers[taken] - copy[1])
    merged = last(Merged.none(5), 1, 2)
    rows = torch.from_numpy(merged.matrices)
    torch.testing.assert_close(torch.einsum("ij,jkl->ikl", rows, layers), copy[[0, 1, 4]])
    assert merged.vectors[1].tolist() == [0, 1, 0, 0, 0]
    assert merged.places == (0, 1, 4) and merged.changed() == [(1, 1)]


@pytest.mark.parametrize("name", ["laco", "laco-released"])
def test_laco_writes_the_merged_weights(model, task, tmp_path, name):
    answer = RIVALS[name].play(again(task, (2,))).chosen[2]
    assert answer.kept.sum() == 6
    source = saved(model, tmp_path / "whole")
    answer.write(source, tmp_path / "merged", None)
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    merged = answer.write.args[0]
    assert merged.changed()
    for i, new in enumerate(written.model.layers):
        for part, parameter in new.named_parameters():
            old = [layer.get_parameter(part) for layer in model.model.layers]
            row = merged.vectors[i] if parameter.ndim == 1 else merged.matrices[i]
            expected = sum(float(c) * p for c, p in zip(row, old, strict=True))
            torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-6)


def test_the_map_is_the_least_squares_answer(model, task):
    meter = Meter(task)
    block = model.model.layers[2].mlp
    found = fitted(task, meter, block, 2, 2)
    states = plain_states(model, task.tokens)
    given = block(model.model.layers[2].post_attention_layernorm(_middle(model, states[2])))
    m = given.detach().flatten(0, 1).double().numpy()
    wanted = (states[5] - (states[3] - given)).detach().flatten(0, 1).double().numpy()
    expected = np.linalg.lstsq(m, wanted, rcond=None)[0]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def _middle(model, state):
    """The state between attention and feed-forward of layer 2."""
    layer = model.model.layers[2]
    places = torch.arange(state.shape[1])[None]
    mask = torch.full((state.shape[1],) * 2, -torch.inf).triu(1)[None, None]
    rotary = model.model.rotary_emb(state, places)
    normed = layer.input_layernorm(state)
    return state + layer.self_attn(normed, position_embeddings=rotary, attention_mask=mask)[0]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_folded_map_is_the_map_in_the_run_of_the_model(model, family, tmp_path):
    model = model if family == "llama" else gpt2(6)
    task = make_task(model, (2,))
    answer = RIVALS["replace"].play(task).chosen[2]
    folded = answer.write.args[0]
    turned = mean_cosines(task, Meter(task))
    start = folded.layer + 1
    assert turned[start, start + 2] == max(turned[i, i + 2] for i in range(1, len(turned) - 2))
    source = saved(model, tmp_path / "whole")
    answer.write(source, tmp_path / "folded", None)
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "folded")

    matrix = task.stack.layers[folded.layer].get_submodule(folded.name)
    handle = matrix.register_forward_hook(lambda _, args, out: out @ folded.map)
    from coterie.models.loaded.routing import routed

    with routed(model, task.stack, answer.kept.tolist()):
        expected = logits(model, task.tokens)
    handle.remove()
    torch.testing.assert_close(logits(written, task.tokens), expected, rtol=1e-3, atol=1e-3)


def test_nothing_sliced_is_the_same_model(model, task, tmp_path):
    turns = principal_axes(task, Meter(task))
    source = saved(model, tmp_path / "whole")
    write(turns, 24, source, tmp_path / "turned", None)
    turned = load_model(
        resolve(str(tmp_path / "turned"), trust_remote_code=True), dtype=None, device="cpu"
    )
    expected = logits(model, task.tokens)
    torch.testing.assert_close(logits(turned, task.tokens), expected, rtol=1e-3, atol=1e-3)


def test_axes_are_those_of_the_states(model, task):
    turns = principal_axes(task, Meter(task))
    states = plain_states(model, task.tokens)[3].flatten(0, 1)
    energy = (states @ turns.before[3]).pow(2).sum(0)
    assert (energy.diff() <= 1e-3 * energy[0]).all()
    torch.testing.assert_close(
        turns.before[3].T @ turns.before[3], torch.eye(24), atol=1e-4, rtol=0
    )


def test_a_sliced_model_has_no_more_parameters_than_the_cut_one(model, task, tmp_path):
    answer = RIVALS["slicegpt"].play(again(task, (3,))).chosen[3]
    assert answer.own_code
    source = saved(model, tmp_path / "whole")
    written = answer.write(source, tmp_path / "sliced", None)
    layers = sum(p.numel() for p in model.model.layers.parameters())
    target = sum(p.numel() for p in model.parameters()) - 3 * layers / 8
    width = width_at(task, 3)
    assert written.n_parameters <= target < written.n_parameters * ((width + 1) / width) ** 2
    sliced = load_model(
        resolve(str(tmp_path / "sliced"), trust_remote_code=True), dtype=None, device="cpu"
    )
    assert sum(p.numel() for p in sliced.parameters()) == written.n_parameters
    assert logits(sliced, task.tokens).isfinite().all()


def test_slicing_says_which_families_it_is_for():
    with pytest.raises(DoesNotApply, match="this is a gpt2"):
        RIVALS["slicegpt"].play(make_task(gpt2(), (1,)))
