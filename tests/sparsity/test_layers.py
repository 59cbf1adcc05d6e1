"""Pruning whole models: statistics, one layer after the other, writing and reading back."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import save_llama
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.disk.layer_weights import ShardedWeights
from coterie.engine.disk.parameters import empty_model
from coterie.errors import ModelError, VerificationError
from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import Stack, find_stack
from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.calibration import Calibration, PruningTask
from coterie.sparsity.layerwise import prune_layer, prune_layers, put
from coterie.sparsity.levels import Pattern, PrunedLayer
from coterie.sparsity.linears import linear_maps
from coterie.sparsity.pruners import PRUNERS, find_pruner
from coterie.sparsity.write import SparseWriter, check_sparse
from coterie.testing.small_sizes import VOCABULARY
from coterie.testing.tiny import tiny_model

N_LAYERS = 3


def texts(n: int = 6, length: int = 24, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.randint(vocabulary, (n, length), generator=torch.Generator().manual_seed(3))


def made(kind: str = "llama") -> tuple[PreTrainedModel, Stack]:
    model = tiny_model(kind, N_LAYERS)
    return model, find_stack(model)


def saved(folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> Source:
    tiny_model(kind, N_LAYERS).to(dtype).save_pretrained(folder)
    return resolve(str(folder), None)


def loaded(source: Source, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, Stack]:
    model = load_model(source, dtype=dtype, device="cpu")
    return model, find_stack(model)


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=texts(), use_cache=False).logits


def parameters(stack: Stack) -> dict[str, Tensor]:
    return {
        f"{i}.{name}": tensor.detach().clone()
        for i, layer in enumerate(stack.layers)
        for name, tensor in layer.named_parameters()
    }


def test_statistics_are_those_of_the_inputs_each_map_is_given():
    model, stack = made()
    tokens, seen = texts(), {}
    maps = linear_maps(stack, 1)
    for found in maps:
        found.owner.register_forward_pre_hook(
            lambda _, args, name=found.name: seen.__setitem__(name, args[0].flatten(0, 1))
        )
    calibration = Calibration(model, stack, tokens)
    calibration.advance(0)
    known = calibration.measure(1, maps, find_pruner("sparsegpt"))
    seen.clear()
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    assert [found.name for found in maps] == list(seen)
    for found, one in zip(maps, known, strict=True):
        inputs = seen[found.name]
        assert one.rows == tokens.numel()
        torch.testing.assert_close(one.hessian, inputs.T @ inputs / len(inputs))
        torch.testing.assert_close(one.squares, inputs.square().mean(0))


@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])
def test_statistics_of_an_expert_are_of_the_tokens_routed_to_it(kind):
    model, stack = made(kind)
    tokens, seen = texts(), []
    maps = linear_maps(stack, 0)
    fused = [found for found in maps if found.expert is not None]
    calibration = Calibration(model, stack, tokens)
    fused[0].owner.register_forward_pre_hook(lambda _, args: seen.append(args))
    before = model.config._experts_implementation
    known = calibration.measure(0, maps, find_pruner("wanda"))
    assert model.config._experts_implementation == before
    states = torch.cat([args[0].flatten(0, -2) for args in seen])
    chosen = torch.cat([args[1].flatten(0, -2) for args in seen])
    for found, one in zip(maps, known, strict=True):
        if found.expert is None:
            continue
        mine = states[(chosen == found.expert).any(-1)]
        assert one.rows == len(mine)
        if "gate_up" in found.name:
            torch.testing.assert_close(one.squares, mine.square().mean(0))
            assert found.weight.shape[1] == states.shape[1]
    assert sum(one.rows for one in known[-len(fused) // 2 :]) == chosen.numel()


def test_no_router_norm_or_embedding_is_a_map():
    for kind in ("mixtral", "qwen3_moe", "granitemoe", "deepseek_v3"):
        _, stack = made(kind)
        names = [found.name for layer in range(N_LAYERS) for found in linear_maps(stack, layer)]
        assert names and not [
            name for name in names if "router" in name or "norm" in name or name.endswith("gate")
        ]


def test_gates_that_choose_no_expert_are_maps_like_others():
    for kind, gate in {
        "minimax": "self_attn.output_gate",
        "kimi_linear": "self_attn.forget_gate.f_a_proj",
        "xlstm": "ffn.proj_up_gate",
    }.items():
        _, stack = made(kind)
        names = {found.name for layer in range(N_LAYERS) for found in linear_maps(stack, layer)}
        assert gate in names and not any("router" in name for name in names)


def test_what_cannot_be_told_apart_is_refused():
    _, stack = made("dbrx")
    with pytest.raises(ModelError, match=r"experts in a form \(DbrxExpertGLU\)"):
        linear_maps(stack, 0)
    _, stack = made()
    stack.layers[1].mlp.up_proj.weight = stack.layers[0].mlp.up_proj.weight
    with pytest.raises(ModelError, match="shared with another layer"):
        linear_maps(stack, 0)


@pytest.mark.parametrize("name", PRUNERS)
def test_each_layer_is_judged_on_what_pruned_layers_hand_on(name):
    """The definition: run the whole model, prune a layer, run the whole model, and so on."""
    pruner, tokens = find_pruner(name), texts()
    model, stack = made()
    other, plain = made()
    for pruned in prune_layers(PruningTask(model, stack, tokens, pruner), [0.5, 0.3, 0.7]):
        maps = linear_maps(plain, pruned.layer)
        fresh = Calibration(other, plain, tokens)
        for before in range(pruned.layer):
            fresh.advance(before)
        known = fresh.measure(pruned.layer, maps, pruner)
        expected = prune_layer(plain, pruned.layer, [0.5, 0.3, 0.7][pruned.layer], pruner, known)
        put(plain, expected)
        assert pruned.tensors.keys() == expected.tensors.keys()
        for key, tensor in expected.tensors.items():
            torch.testing.assert_close(pruned.tensors[key], tensor, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits(model), logits(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PRUNERS)
def test_a_variant_leaves_the_model_alone_and_statistics_serve_many(name):
    model, stack = made()
    before = parameters(stack)
    pruner, maps = find_pruner(name), linear_maps(stack, 0)
    known = Calibration(model, stack, texts()).measure(0, maps, pruner)
    shares = [prune_layer(stack, 0, level, pruner, known).realised for level in (0.2, 0.5, 0.8)]
    assert shares == pytest.approx([0.2, 0.5, 0.8], abs=1e-3)
    again = prune_layer(stack, 0, 0.5, pruner, known)
    for key, tensor in prune_layer(stack, 0, 0.5, pruner, known).tensors.items():
        assert torch.equal(tensor, again.tensors[key])
    after = parameters(stack)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_levels_may_be_given_by_name_and_as_patterns():
    _, stack = made()
    level = {"self_attn": 0.25, "self_attn.o_proj": Pattern(2, 4), "mlp.up_proj": 0.75}
    pruned = prune_layer(stack, 0, level, find_pruner("magnitude"))
    realised = {one.name: one.realised for one in pruned.maps}
    assert realised["self_attn.q_proj"] == pytest.approx(0.25, abs=1e-3)
    assert realised["self_attn.o_proj"] == 0.5
    assert realised["mlp.up_proj"] == pytest.approx(0.75, abs=1e-3)
    assert realised["mlp.gate_proj"] == 0 and "mlp.gate_proj.weight" not in pruned.tensors


@pytest.mark.parametrize(
    ("allocation", "message"),
    [
        ([0.5, 0.5], "2 levels, the model 3 layers"),
        ([0.5, 1.0, 0.5], r"sparsity 1 of .*layers\.1.* must lie in \[0, 1\)"),
        ([0.5, -0.1, 0.5], r"sparsity -0\.1"),
        ([0.5, float("nan"), 0.5], "sparsity nan"),
        ([0.5, Pattern(2, 5), 0.5], "32 inputs, which groups of 5 do not divide: 2:5"),
        ([0.5, {"mpl": 0.5}, 0.5], "no linear map 'mpl': it has self_attn.q_proj"),
    ],
)
def test_levels_that_cannot_be_had_are_refused_before_anything_changes(allocation, message):
    model, stack = made()
    before = parameters(stack)
    with pytest.raises(SparsityError, match=message):
        prune_layers(PruningTask(model, stack, texts(), find_pruner("magnitude")), allocation)
    assert all(torch.equal(before[key], tensor) for key, tensor in parameters(stack).items())


def test_too_little_text_for_a_hessian_is_refused():
    model, stack = made()
    with pytest.raises(SparsityError, match=r"40 calibration tokens .* 64 inputs.*damping \(0\.01"):
        prune_layers(
            PruningTask(model, stack, texts(2, 20), find_pruner("sparsegpt")), [0.5] * N_LAYERS
        )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gpt2", "wanda"),
        ("gpt2", "sparsegpt"),
        ("mixtral", "sparsegpt"),
        ("gpt_oss", "sparsegpt"),
        ("llama4_text", "wanda"),
        ("mamba", "sparsegpt"),
    ],
)
def test_what_is_read_back_is_what_was_pruned(kind, name, tmp_path):
    source = saved(tmp_path / "dense", kind)
    model, stack = loaded(source)
    writer = SparseWriter(source, model, stack)
    run = prune_layers(
        PruningTask(model, stack, texts(), find_pruner(name)),
        [0.5, 0.3, Pattern(2, 4)],
        stored=writer.stored,
    )
    layers = writer.write(run, tmp_path / "sparse")
    again, _ = loaded(resolve(str(tmp_path / "sparse"), None))
    assert torch.equal(logits(model), logits(again))
    found = check_sparse(layers, source, again, tmp_path / "sparse")
    assert found.realised == pytest.approx(found.asked, abs=1e-3)
    for pruned, level in zip(layers, (0.5, 0.3, 0.5), strict=True):
        for one in pruned.maps:
            assert abs(one.zeros - level * one.weights) <= 0.5


@pytest.mark.parametrize("name", PRUNERS)
def test_sixteen_bit_checkpoints_stay_so_and_give_what_was_measured(name, tmp_path):
    source = resolve(str(save_llama(tmp_path / "dense", n_layers=N_LAYERS)), None)
    model, stack = loaded(source)  # searched in float32, stored in bfloat16
    writer = SparseWriter(source, model, stack)
    run = prune_layers(
        PruningTask(model, stack, texts(), find_pruner(name)),
        [0.5] * N_LAYERS,
        stored=writer.stored,
    )
    layers = writer.write(run, tmp_path / "sparse")
    sparse = resolve(str(tmp_path / "sparse"), None)
    assert {entry.dtype for entry in sparse.entries} == {"BF16"}
    again, _ = loaded(sparse)
    assert torch.equal(logits(model), logits(again))
    check_sparse(layers, source, again, tmp_path / "sparse")
    assert (tmp_path / "sparse" / "tokenizer.json").is_file()


@pytest.mark.parametrize("name", ["magnitude", "wanda"])
def test_weights_that_stay_are_not_rounded_to_the_dtype_they_were_judged_in(name, tmp_path):
    source = saved(tmp_path / "dense", "llama")  # stored in float32
    model, stack = loaded(source, torch.bfloat16)
    writer = SparseWriter(source, model, stack)
    run = prune_layers(
        PruningTask(model, stack, texts(), find_pruner(name)),
        [0.5] * N_LAYERS,
        stored=writer.stored,
    )
    layers = writer.write(run, tmp_path / "sparse")
    dense, sparse = (load_file(tmp_path / one / "model.safetensors") for one in ("dense", "sparse"))
    for key, weight in sparse.items():
        kept = weight != 0
        assert weight.dtype == torch.float32 and torch.equal(weight[kept], dense[key][kept])
    again, _ = loaded(resolve(str(tmp_path / "sparse"), None), torch.bfloat16)
    assert torch.equal(logits(model), logits(again))
    check_sparse(layers, source, again, tmp_path / "sparse")


def test_a_dense_allocation_gives_the_source_back_bit_by_bit(tmp_path):
    source = resolve(str(save_llama(tmp_path / "dense", n_layers=N_LAYERS)), None)
    model, stack = loaded(source)
    writer = SparseWriter(source, model, stack)
    allocation = [0.0, Pattern(4, 4), {}]
    run = prune_layers(PruningTask(model, stack, texts(), find_pruner("sparsegpt")), allocation)
    writer.write(run, tmp_path / "sparse")
    for file in (tmp_path / "dense").iterdir():
        assert file.read_bytes() == (tmp_path / "sparse" / file.name).read_bytes()


def test_layers_that_share_more_than_the_state_are_refused():
    model = tiny_model("gemma4_text", 6)  # its last layers take keys and values of earlier ones
    assert model.config.num_kv_shared_layers > 0
    with pytest.raises(ModelError, match=r"cannot be pruned layer by layer .* differ"):
        Calibration(model, find_stack(model), texts())


def test_layers_brought_in_from_files_are_pruned_alike(tmp_path):
    source = resolve(str(save_llama(tmp_path / "dense", n_layers=N_LAYERS)), None)
    tokens, pruner = texts(), find_pruner("sparsegpt")
    allocation = [0.5, 0.6, Pattern(2, 4)]
    model, stack = loaded(source)
    writer = SparseWriter(source, model, stack)
    whole = prune_layers(
        PruningTask(model, stack, tokens, pruner), allocation, stored=writer.stored
    )
    writer.write(whole, tmp_path / "whole")

    empty = empty_model(source.config(), torch.float32, trust_remote_code=False)
    layers = find_stack(empty)
    weights = ShardedWeights(source, empty, layers, torch.device("cpu"))
    weights.learn(layers, tokens[[0, -1]])
    writer = SparseWriter(source, empty, layers)
    with weights.beginning():
        run = prune_layers(
            PruningTask(empty, layers, tokens, pruner, weights), allocation, stored=writer.stored
        )
        writer.write(run, tmp_path / "streamed")
    name = "model.safetensors"
    streamed = (tmp_path / "streamed" / name).read_bytes()
    assert streamed == (tmp_path / "whole" / name).read_bytes()
    assert streamed != (tmp_path / "dense" / name).read_bytes()


def test_other_zeros_than_were_pruned_are_noticed(tmp_path):
    source = saved(tmp_path / "dense", "llama")
    model, stack = loaded(source)
    writer = SparseWriter(source, model, stack)
    run = prune_layers(
        PruningTask(model, stack, texts(), find_pruner("magnitude")), [0.5] * N_LAYERS
    )
    layers = writer.write(run, tmp_path / "sparse")
    again, found = loaded(resolve(str(tmp_path / "sparse"), None))
    with torch.no_grad():
        found.layers[1].mlp.up_proj.weight[0, 0] = 0
        found.layers[1].mlp.up_proj.weight[0, 1] = 0
    broken = [
        PrunedLayer(
            one.layer, {}, tuple(dataclasses.replace(m, zeros=m.zeros + 1) for m in one.maps)
        )
        for one in layers
    ]
    with pytest.raises(VerificationError, match="zeros on disk"):
        check_sparse(broken, source, again, tmp_path / "sparse")
