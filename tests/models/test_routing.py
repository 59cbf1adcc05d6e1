"""Skipping is deletion, and nothing stays changed."""

import pytest
import torch
from torch import nn

from coterie.errors import CutError
from coterie.models.cutting.in_memory import cut_model
from coterie.models.loaded.routing import input_device, routed
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_model

COALITION = [True, False, True, True, False, True]
KEPT = [0, 2, 3, 5]


def logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits


@pytest.mark.parametrize("model_type", ["llama", "bloom", "falcon_h1", "mamba2", "gpt_neo"])
def test_a_skipped_layer_is_as_good_as_deleted(model_type, tokens):
    model = tiny_model(model_type, 6)
    with routed(model, find_stack(model), COALITION):
        skipped = logits(model, tokens)
    torch.testing.assert_close(skipped, logits(cut_model(model, KEPT), tokens), rtol=0, atol=0)
    assert (skipped - logits(model, tokens)).abs().max() > 1e-3


def test_the_empty_coalition_is_embeddings_and_head_alone(llama, tokens):
    with routed(llama, find_stack(llama), [False] * 6), torch.no_grad():
        skipped = logits(llama, tokens)
        bare = llama.lm_head(llama.model.norm(llama.model.embed_tokens(tokens)))
    torch.testing.assert_close(skipped, bare, rtol=0, atol=0)


def test_the_model_is_as_before_whatever_happens(llama, tokens):
    stack = find_stack(llama)
    weights = {name: (p.data_ptr(), p.clone()) for name, p in llama.named_parameters()}
    before = logits(llama, tokens)
    with pytest.raises(KeyboardInterrupt), routed(llama, stack, COALITION):
        raise KeyboardInterrupt
    assert all("forward" not in vars(layer) for layer in stack.layers)
    for name, parameter in llama.named_parameters():
        pointer, value = weights[name]
        assert parameter.data_ptr() == pointer
        assert torch.equal(parameter, value)
    torch.testing.assert_close(logits(llama, tokens), before, rtol=0, atol=0)


def test_a_forward_that_another_library_put_there_comes_back(llama, tokens):
    layer = find_stack(llama).layers[1]
    patch = type(layer).forward.__get__(layer)
    layer.forward = patch
    try:
        with routed(llama, find_stack(llama), COALITION):
            logits(llama, tokens)
        assert vars(layer)["forward"] is patch
    finally:
        del layer.forward


def test_a_skipped_layer_refuses_a_cache(llama, tokens):
    with (
        routed(llama, find_stack(llama), COALITION),
        pytest.raises(CutError, match=r"model\.layers\.1 was handed a cache"),
        torch.no_grad(),
    ):
        llama(input_ids=tokens, use_cache=True)


def test_a_coalition_of_another_length_is_refused(llama):
    with (
        pytest.raises(CutError, match=r"shape \(5,\), the model 6 players"),
        routed(llama, find_stack(llama), COALITION[:5]),
    ):
        pass


def test_state_that_threads_through_the_layers_passes_a_skipped_one(tokens):
    """GLM's sparse attention hands the chosen tokens on from layer to layer."""
    model = tiny_model("glm_moe_dsa", 6)
    stack = find_stack(model)
    with routed(model, stack, COALITION):
        skipped = logits(model, tokens)
    torch.testing.assert_close(skipped, logits(cut_model(model, KEPT), tokens), rtol=0, atol=1e-6)


def test_hooks_see_only_the_layers_that_run(llama, tokens):
    seen = []
    stack = find_stack(llama)
    attentions: list[nn.Module] = [layer.self_attn for layer in stack.layers]
    handles = [
        module.register_forward_hook(lambda *_, i=i: seen.append(i))
        for i, module in enumerate(attentions)
    ]
    with routed(llama, stack, COALITION):
        seen.clear()
        logits(llama, tokens)
    for handle in handles:
        handle.remove()
    assert seen == KEPT


def test_a_model_that_accelerate_offloads_is_fed_where_it_runs(tokens):
    """`cpu_offload` leaves even the embeddings on the meta device between two calls."""
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    expected = logits(cut_model(tiny_model("llama", 6), KEPT), tokens)
    model = accelerate.cpu_offload(tiny_model("llama", 6), torch.device("cpu"))
    assert model.get_input_embeddings().weight.is_meta
    assert input_device(model) == torch.device("cpu")
    with routed(model, find_stack(model), COALITION):
        skipped = logits(model, tokens)
    torch.testing.assert_close(skipped, expected, rtol=0, atol=0)
