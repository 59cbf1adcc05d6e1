"""Every selecting rival against its published rule, computed another way."""

from itertools import combinations, pairwise
from math import acos, pi

import numpy as np
import pytest
import torch
from tests.rivals.tasks import again, cut, gpt2, llama, make_task, nll, plain_states

from coterie.game.coalitions import from_text
from coterie.game.designs import enumerate_all
from coterie.game.estimation.semivalues import banzhaf, exact
from coterie.models.loaded.routing import routed
from coterie.rivals import RIVALS
from coterie.rivals import clp as clp_module
from coterie.rivals import entropy as entropy_module
from coterie.rivals import shortened as shortened_module
from coterie.rivals._states import states_of
from coterie.rivals.gtap import power
from coterie.rivals.interface import Meter
from coterie.rivals.random import DRAWS
from coterie.rivals.shortgpt import block_influence


def removed(outcome, removal):
    """The layers that go, of a method with one answer."""
    (coalition,) = outcome.chosen[removal].coalitions
    return np.flatnonzero(~coalition).tolist()


def test_states_are_those_of_the_layers_called_by_hand(model, task):
    expected = plain_states(model, task.tokens)
    found = [torch.cat(parts) for parts in zip(*states_of(task, Meter(task)), strict=True)]
    assert len(found) == len(expected) == 9
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_states_of_another_family_are_its_hidden_states():
    model = gpt2()
    task = make_task(model, (1,))
    ids = torch.from_numpy(task.tokens)
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
    found = [torch.cat(parts) for parts in zip(*states_of(task, Meter(task)), strict=True)]
    for one, other in zip(found[:-1], expected[:-1], strict=True):  # the last one is normed there
        torch.testing.assert_close(one, other)


def test_random_draws_distinct_coalitions(task):
    coalitions = RIVALS["random"].play(again(task, (3,))).chosen[3].coalitions
    assert len(np.unique(coalitions, axis=0)) == len(coalitions) == DRAWS
    assert len(RIVALS["random"].play(again(task, (1,))).chosen[1].coalitions) == 8


def test_exhaustive_finds_the_best_pair(model, task):
    losses = {}
    for pair in combinations(range(8), 2):
        coalition = np.ones(8, dtype=bool)
        coalition[list(pair)] = False
        losses[pair] = nll(cut(model, coalition), task.tokens)
    assert removed(RIVALS["exhaustive"].play(again(task, (2,))), 2) == list(
        min(losses, key=losses.get)
    )


def test_block_influence_is_one_less_the_mean_cosine(model, task):
    states = [state.double().numpy() for state in plain_states(model, task.tokens)]
    expected = []
    for one, other in pairwise(states):
        norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        expected.append(1 - ((one * other).sum(axis=-1) / norms).mean())
    np.testing.assert_allclose(block_influence(task, Meter(task)), expected, atol=1e-5)
    lowest = np.sort(np.argsort(expected)[:3]).tolist()
    assert removed(RIVALS["shortgpt"].play(task), 3) == lowest


def test_a_layer_that_does_nothing_goes_first():
    model = llama(8)
    with torch.no_grad():
        model.model.layers[5].self_attn.o_proj.weight.zero_()
        model.model.layers[5].mlp.down_proj.weight.zero_()
    task = make_task(model, (1,))
    for name in ("shortgpt", "angular"):
        assert removed(RIVALS[name].play(task), 1) == [5], name


def test_perplexity_ranks_by_the_loss_without_a_layer(model, task):
    losses = [nll(cut(model, ~np.eye(8, dtype=bool)[i]), task.tokens) for i in range(8)]
    expected = np.sort(np.argsort(losses)[:2]).tolist()
    assert removed(RIVALS["shortened-ppl"].play(task), 2) == expected


def test_taylor_sums_weight_times_gradient(model, task):
    ids = torch.from_numpy(task.tokens)
    model.zero_grad()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    expected = [
        sum(
            (p * p.grad).abs().sum().item()
            for name, p in layer.named_parameters()
            if name.endswith("weight")
        )
        for layer in model.model.layers
    ]
    model.zero_grad(set_to_none=True)
    np.testing.assert_allclose(shortened_module.taylor(task, Meter(task)), expected, rtol=1e-3)
    middle = np.argsort(expected[4:6])[0] + 4  # four at the front and two at the back stay
    outcome = RIVALS["shortened-taylor"].play(task)
    assert removed(outcome, 1) == [middle] and removed(outcome, 2) == [4, 5]
    assert 3 not in outcome.chosen and "3 layers" in outcome.remarks[0]


def test_taylor_leaves_out_biases():
    model = gpt2(8)
    task = make_task(model, (1,))
    with torch.no_grad():
        model.transformer.h[4].mlp.c_fc.bias += 5.0
    weights = shortened_module._weights(model.transformer.h[4])
    assert all(weight is not model.transformer.h[4].mlp.c_fc.bias for weight in weights)
    assert RIVALS["shortened-taylor"].play(task).chosen


def test_magnitude_removes_the_smallest_weights(model, task):
    sums = [sum(p.abs().sum().item() for p in layer.parameters()) for layer in model.model.layers]
    assert removed(RIVALS["shortened-magnitude"].play(task), 1) == [4 + int(np.argmin(sums[4:6]))]


def test_sleb_descends_step_by_step(model, task):
    kept = np.ones(8, dtype=bool)
    for _ in range(3):
        losses = {}
        for layer in np.flatnonzero(kept)[1:-1]:
            trial = kept.copy()
            trial[layer] = False
            losses[layer] = nll(cut(model, trial), task.tokens)
        kept[min(losses, key=losses.get)] = False
    outcome = RIVALS["sleb"].play(task)
    assert removed(outcome, 3) == np.flatnonzero(~kept).tolist()
    assert set(removed(outcome, 1)) < set(removed(outcome, 2)) < set(removed(outcome, 3))


def test_angular_distance_of_the_ends_of_a_run(model, task):
    last = [state[:, -1].double() for state in plain_states(model, task.tokens)]

    def distance(start, length):
        pairs = zip(last[start], last[start + length], strict=True)
        return np.mean([acos(float(a @ b / a.norm() / b.norm())) / pi for a, b in pairs])

    outcome = RIVALS["angular"].play(task)
    for length in (1, 2, 3):
        start = min(range(8 - length + 1), key=lambda at: distance(at, length))
        assert removed(outcome, length) == list(range(start, start + length))


def test_a_run_never_holds_a_locked_layer(model):
    task = make_task(model, (2, 3), locked=np.array([1, 4, 6]))
    outcome = RIVALS["angular"].play(task)
    assert removed(outcome, 2) == [2, 3]
    assert 3 not in outcome.chosen and outcome.remarks


def test_evopress_never_ends_below_its_start_and_asks_divergence(model, task):
    assert RIVALS["evopress"].play(again(task, (1,))).chosen[1].coalitions.shape == (1, 8)
    ids = torch.from_numpy(task.tokens)
    with torch.no_grad():
        full = model(input_ids=ids, use_cache=False).logits[:, :-1].double().log_softmax(-1)
    divergences = []
    for layer in range(8):
        coalition = ~np.eye(8, dtype=bool)[layer]
        with routed(model, task.stack, coalition.tolist()), torch.no_grad():
            cut_ = model(input_ids=ids, use_cache=False).logits[:, :-1].double().log_softmax(-1)
        divergences.append((full.exp() * (full - cut_)).sum(-1).mean().item())
    # 64 initial draws are all there are, and 4.7 generations look at every swap of one layer.
    assert removed(RIVALS["evopress"].play(again(task, (1,))), 1) == [int(np.argmin(divergences))]


def test_entropy_of_buckets_by_hand():
    values = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.049, 0.0], [1.0, 0.0]])
    counts = entropy_module.bucket_counts(values, values.amin(0), values.amax(0))
    assert counts[0, 0] == 2 and counts[0, -1] == 2 and counts[1, 0] == 4
    assert entropy_module.entropy(counts) == pytest.approx(np.log(2))


def test_entropy_keeps_the_first_stage_and_cuts_the_smallest_increase(model, task):
    states = [s.flatten(0, 1).numpy() for s in plain_states(model, task.tokens)]
    entropies = []
    for state in states:
        shares = [
            np.histogram(column, entropy_module.BUCKETS)[0] / len(column) for column in state.T
        ]
        entropies.append(sum(-(s[s > 0] * np.log(s[s > 0])).sum() for s in shares))
    found = entropy_module.state_entropies(task, Meter(task))
    np.testing.assert_allclose(found, entropies, rtol=1e-2)
    start = int(found.argmin())
    outcome = RIVALS["entropy"].play(task)
    for removal, answer in outcome.chosen.items():
        second = start + np.argsort(np.diff(found)[start:], kind="stable")[:removal]
        assert removed(outcome, removal) == np.sort(second).tolist(), answer


def test_power_over_all_coalitions_is_the_banzhaf_index(rng):
    table = rng.normal(size=2**5)
    coalitions = enumerate_all(5)
    expected = exact(table, banzhaf(5)).values
    np.testing.assert_allclose(power(coalitions, table, np.arange(5)), expected)


def test_gtap_cuts_the_smallest_index(task):
    outcome = RIVALS["gtap"].play(again(task, (2,), seed=5))
    drawn = np.random.default_rng(5).random((512, 8)) < 0.5
    values = Meter(task).ledger().value(drawn)
    index = power(drawn, values, np.arange(8))
    assert removed(outcome, 2) == np.sort(np.argsort(index)[:2]).tolist()


def test_blockpruner_removes_blocks_until_as_many_parameters_are_gone(model, task):
    outcome = RIVALS["blockpruner"].play(task)
    blocks = [b for x in model.model.layers for b in (x.self_attn, x.mlp)]
    weights = np.array([sum(p.numel() for p in block.parameters()) for block in blocks])
    for removal in (1, 2, 3):
        (coalition,) = outcome.chosen[removal].coalitions
        gone = weights[~coalition].sum()
        assert gone >= removal * weights.sum() / 8 > gone - weights.max()
    first = ledger_of_blocks(model, task)
    assert not outcome.chosen[1].coalitions[0, first]


def ledger_of_blocks(model, task):
    """The block whose absence alone hurts least, with its output set to nothing by hand."""
    losses = []
    for layer in model.model.layers:
        for matrix in (layer.self_attn.o_proj, layer.mlp.down_proj):
            handle = matrix.register_forward_hook(lambda _, args, out: torch.zeros_like(out))
            losses.append(nll(model, task.tokens))
            handle.remove()
    return int(np.argmin(losses))


def test_the_gate_is_a_window():
    gates = clp_module.gate(torch.tensor(3.0), 2, 8, 50.0)
    expected = torch.tensor([1, 1, 1, 0, 0, 1, 1, 1.0])
    torch.testing.assert_close(gates, expected, atol=1e-6, rtol=0)


def test_a_closed_gate_is_a_skipped_layer_and_an_open_one_changes_nothing(model, task):
    ids = torch.from_numpy(task.tokens)
    coalition = from_text(["11001111"])[0]
    with torch.no_grad(), clp_module.gated(task, torch.from_numpy(coalition.astype("float32"))):
        gated = model(input_ids=ids, use_cache=False).logits
    with torch.no_grad(), routed(model, task.stack, coalition.tolist()):
        expected = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(gated, expected, rtol=1e-4, atol=1e-4)


def test_clp_answers_with_one_run_of_layers():
    run = removed(RIVALS["clp"].play(make_task(llama(8), (2,))), 2)
    assert run == list(range(run[0], run[0] + 2))
