"""A model read layer by layer has the values of the model in memory, in one pass over weights."""

import os
import tempfile
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from coterie.engine.disk import apart
from coterie.engine.disk import layer_weights as shards
from coterie.engine.disk.apart import telling_layers
from coterie.engine.disk.gpu_copies import Copies
from coterie.engine.disk.parameters import empty_model
from coterie.engine.disk.spill import Spill
from coterie.engine.model_game import ModelGame
from coterie.engine.parts.head import ENOUGH_TOKENS, ProjectionHead, find_head
from coterie.engine.parts.layers import LayerStack
from coterie.engine.streamed_game import StreamedGame
from coterie.errors import ModelError
from coterie.game.coalitions import observe_all
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_model


def texts():
    return torch.randint(128, (5, 9), generator=torch.manual_seed(1))


def saved(family, folder, n_layers=4, shard="20KB"):
    model = tiny_model(family, n_layers)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    model.save_pretrained(folder, max_shard_size=shard)
    return model, resolve(str(folder))


def some_coalitions(rng, n_players):
    return np.unique(rng.random((10, n_players)) < 0.6, axis=0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3_text", "mamba2", "falcon_h1"])
def test_streaming_changes_no_value(family, rng, tmp_path):
    model, source = saved(family, tmp_path)
    streamed = StreamedGame(source, texts())
    whole = ModelGame(model, texts())
    coalitions = some_coalitions(rng, whole.n_players)
    found, expected = observe_all(streamed, coalitions), observe_all(whole, coalitions)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=0, atol=5e-6)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(found.top1, expected.top1)


HALF_FAMILIES = [
    "llama",
    "bloom",  # normalises its embeddings
    "modernbert-decoder",  # so does this one
    "gptj",  # computes its rotary tables in float32
    "inkling_text",  # keeps some weights in float32
    "mamba2",  # hands its last state on in float32
]


@pytest.mark.parametrize("family", HALF_FAMILIES)
def test_streaming_in_half_precision_changes_no_value(family, rng, tmp_path):
    _, source = saved(family, tmp_path)
    streamed = StreamedGame(source, texts(), dtype=torch.bfloat16)
    whole = ModelGame(load_model(source, dtype=torch.bfloat16, device="cpu"), texts())
    coalitions = some_coalitions(rng, 4)
    found, expected = observe_all(streamed, coalitions), observe_all(whole, coalitions)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=0, atol=1e-4)


def test_the_head_is_found_on_few_tokens(tmp_path, monkeypatch):
    _, source = saved("llama", tmp_path)
    shapes = []

    def seen(model, stack, tokens):
        shapes.append(tuple(tokens.shape))
        return find_head(model, stack, tokens)

    monkeypatch.setattr(apart, "find_head", seen)
    StreamedGame(source, texts().repeat(1, 20))
    assert shapes == [(2, ENOUGH_TOKENS)]


def test_every_layer_is_read_once_for_all_coalitions(rng, tmp_path):
    _, source = saved("llama", tmp_path)
    game = StreamedGame(source, texts())
    coalitions = some_coalitions(rng, 4)
    before = game.traffic.bytes_read
    observe_all(game, coalitions)
    once = sum(entry.n_bytes for entry in source.entries)
    final_norm = next(e.n_bytes for e in source.entries if e.name == "model.norm.weight")
    assert game.traffic.bytes_read - before == once + final_norm  # which comes with either end
    everyone = np.ones((1, 4), dtype=bool)  # goes along in the pass
    planned = game.plan(np.concatenate([coalitions, everyone]))
    assert game.spent.layer_executions == planned.layer_executions


def test_states_beyond_their_memory_go_to_files_and_come_back(rng, tmp_path, monkeypatch):
    model, source = saved("llama", tmp_path / "model")
    (tmp_path / "spill").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spill"))
    game = StreamedGame(source, texts(), state_memory=2000)
    coalitions = some_coalitions(rng, 4)
    found = observe_all(game, coalitions)
    np.testing.assert_allclose(found.nll, observe_all(ModelGame(model, texts()), coalitions).nll)
    assert game.spilled > 0
    assert not list((tmp_path / "spill").iterdir())


def test_between_questions_no_weight_of_a_layer_is_held(rng, tmp_path):
    _, source = saved("llama", tmp_path)
    game = StreamedGame(source, texts())
    for _ in range(2):
        for _ in game.observe(some_coalitions(rng, 4), np.arange(2)):
            pass
        assert all(p.is_meta for layer in game.stack.layers for p in layer.parameters())


def test_a_file_that_became_shorter_is_named(tmp_path):
    _, source = saved("llama", tmp_path, shard="1GB")
    game = StreamedGame(source, texts())
    file = tmp_path / "model.safetensors"
    last = max(source.entries, key=lambda entry: entry.start)
    os.truncate(file, last.start + 8)
    with pytest.raises(ModelError, match=f"model.safetensors ended inside {last.name}"):
        observe_all(game, np.ones((1, 4), dtype=bool))


def test_a_state_whose_file_became_shorter_is_not_believed(tmp_path):
    spill = Spill(0, tmp_path)
    spilled = spill.keep(torch.ones(2, 3))
    torch.testing.assert_close(spilled.load(), torch.ones(2, 3))
    os.truncate(spilled.file, 20)
    with pytest.raises(OSError, match="became shorter"):
        spilled.load()


def test_a_file_that_is_gone_is_named(tmp_path):
    _, source = saved("llama", tmp_path, shard="1GB")
    game = StreamedGame(source, texts())
    (tmp_path / "model.safetensors").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"cannot be read: .*model.safetensors"):
        observe_all(game, np.ones((1, 4), dtype=bool))


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_after_a_failed_reading_the_next_question_is_answered(layer, rng, tmp_path, monkeypatch):
    _, source = saved("llama", tmp_path)
    game, coalitions = StreamedGame(source, texts()), some_coalitions(rng, 4)
    expected = observe_all(game, coalitions)
    honest = game._weights._read_into

    def gone(entry, raw):
        if f"layers.{layer}." in entry.name:
            raise OSError("the drive is gone")
        honest(entry, raw)

    monkeypatch.setattr(game._weights, "_read_into", gone)
    with pytest.raises(OSError, match="the drive is gone"):
        observe_all(game, coalitions)
    monkeypatch.undo()
    np.testing.assert_array_equal(observe_all(game, coalitions).nll, expected.nll)


def test_a_layer_that_was_not_wholly_there_is_let_go_of(tmp_path, monkeypatch):
    _, source = saved("llama", tmp_path)
    game = StreamedGame(source, texts())
    honest, placed = shards._assign, []

    def interrupted(place, tensor):
        placed.append(place)
        if len(placed) == 12:  # inside the second layer
            raise KeyboardInterrupt
        honest(place, tensor)

    monkeypatch.setattr(shards, "_assign", interrupted)
    game._weights.hold(0)
    with pytest.raises(KeyboardInterrupt):
        game._weights.hold(1)
    assert all(p.is_meta for p in game.model.parameters())


def test_an_empty_model_has_its_buffers_and_no_weights():
    model = tiny_model("llama", 2)
    empty = empty_model(model.config, torch.float32, trust_remote_code=False)
    assert all(parameter.is_meta for parameter in empty.parameters())
    for (name, buffer), (_, expected) in zip(
        empty.named_buffers(), model.named_buffers(), strict=True
    ):
        torch.testing.assert_close(buffer, expected, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gptj", "codegen", "inkling_text", "deepseek_v3", "gpt_oss"])
def test_an_empty_model_has_the_dtypes_and_buffers_of_a_loaded_one(family, dtype, tmp_path):
    _, source = saved(family, tmp_path)
    loaded = load_model(source, dtype=dtype, device="cpu")
    empty = empty_model(source.config(), dtype, trust_remote_code=False)
    dtypes = {name: parameter.dtype for name, parameter in empty.named_parameters()}
    assert {n: p.dtype for n, p in loaded.named_parameters()}.items() <= dtypes.items()
    computed = dict(loaded.named_non_persistent_buffers())
    for name, buffer in empty.named_buffers():
        assert buffer.dtype == loaded.get_buffer(name).dtype, name
        if name in computed:
            torch.testing.assert_close(buffer, computed[name], rtol=0, atol=0, msg=name)


def test_a_buffer_of_the_checkpoint_is_read_in_its_own_dtype(tmp_path):
    model = tiny_model("gemma3_text", 4)
    model.register_buffer("steps", torch.tensor([1.0, 1.001]))
    weights = model.state_dict()
    weights = {name: weights[name].contiguous() for name in weights if name != "lm_head.weight"}
    model.save_pretrained(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    source = resolve(str(tmp_path))
    empty = empty_model(source.config(), torch.bfloat16, trust_remote_code=False)
    empty.register_buffer("steps", torch.zeros(2))
    shards.ShardedWeights(source, empty, find_stack(empty), torch.device("cpu"))
    torch.testing.assert_close(empty.steps, model.steps, rtol=0, atol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_memory_is_foretold(tied, tmp_path, monkeypatch):
    config = tiny_model("llama", 3).config
    config.vocab_size, config.tie_word_embeddings = 2000, tied
    AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(tmp_path)
    load, put, seen = shards.ShardedWeights._load, shards.ShardedWeights._put, []

    def live(weights):
        tensors = [weights._raw, weights._ready, *weights._model.parameters()]
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(sizes[place] for place in sizes if place)  # a weight that is not there has none

    def loaded(weights, entry, dtype):
        weight = load(weights, entry, dtype)
        seen.append(live(weights) + entry.n_bytes + weight.nbytes)
        return weight

    def ready(weights, layer):
        put(weights, layer)
        seen.append(live(weights))

    monkeypatch.setattr(shards.ShardedWeights, "_load", loaded)
    monkeypatch.setattr(shards.ShardedWeights, "_put", ready)
    game = StreamedGame(resolve(str(tmp_path)), texts())
    weights = game._weights
    assert max(seen) == pytest.approx(weights.opening_bytes, rel=0.02)
    seen.clear()
    observe_all(game, np.array([[True, False, True]]))
    assert max(seen) <= weights.peak_bytes <= weights.opening_bytes
    everyone = np.ones((1, 3), dtype=bool)
    assert game.memory_bytes(everyone) >= weights.opening_bytes


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "deepseek_v3"])
def test_a_mixture_whose_experts_are_merged_is_refused(family, tmp_path):
    _, source = saved(family, tmp_path)
    words = (
        r"hold no tensor 'model.*\.experts\..*', for transformers merges the experts of mixtures"
    )
    with pytest.raises(ModelError, match=rf"cannot be streamed: its files {words}"):
        StreamedGame(source, texts())


def test_a_checkpoint_whose_tensors_are_built_from_others_is_refused(tmp_path):
    _, source = saved("bert", tmp_path)
    with pytest.raises(
        ModelError, match=r"cannot be streamed: its files hold no tensor '.* builds"
    ):
        StreamedGame(source, texts())


def test_a_checkpoint_of_other_kinds_of_numbers_is_refused(tmp_path):
    model, _ = saved("llama", tmp_path, shard="1GB")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    name = "model.layers.1.mlp.up_proj.weight"
    state[name] = state[name].to(torch.int8)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"{name!r} is I8 \[64, 32\] on disk"):
        StreamedGame(resolve(str(tmp_path)), texts())


def test_the_full_model_goes_along_and_is_not_asked_twice(rng, tmp_path):
    model, source = saved("llama", tmp_path)
    game = StreamedGame(source, texts())
    observe_all(game, np.array([[True, False, True, True]]))
    found = observe_all(game, np.ones((1, 4), dtype=bool))
    expected = observe_all(ModelGame(model, texts()), np.ones((1, 4), dtype=bool))
    assert game.passes == 1
    np.testing.assert_allclose(found.nll, expected.nll, rtol=0, atol=5e-6)
    np.testing.assert_array_equal(found.top1, expected.top1)


def test_texts_are_divided_among_passes_where_that_moves_fewer_bytes(rng, tmp_path):
    model, source = saved("llama", tmp_path)
    coalitions = some_coalitions(rng, 4)
    game = StreamedGame(source, texts().repeat(40, 1), state_memory=400_000)
    found = observe_all(game, coalitions)
    assert 1 < game.passes < 200
    expected = observe_all(ModelGame(model, texts()), coalitions)
    np.testing.assert_allclose(found.nll, np.tile(expected.nll, 40), rtol=0, atol=5e-6)
    assert 0 <= game.spilled < 4 * game.pass_bytes


def test_layers_that_share_keys_and_values_are_refused(tmp_path):
    tiny_model("gemma4_text", 6).save_pretrained(tmp_path / "model")
    tokens = torch.arange(32).reshape(2, 16)
    with pytest.raises(ModelError, match=r"cannot be streamed: its layers, run apart, differ"):
        StreamedGame(resolve(str(tmp_path / "model")), tokens)


@pytest.mark.parametrize("giver", [0, 3])
def test_a_last_layer_that_takes_from_an_earlier_one_is_refused(giver, tmp_path, monkeypatch):
    _, source = saved("llama", tmp_path, n_layers=6)
    honest, left = LlamaDecoderLayer.forward, {}

    def forward(layer, hidden_states, **given):
        out = honest(layer, hidden_states, **given)
        number = layer.self_attn.layer_idx
        left[number] = out
        return out + left[giver][: len(out)] if number == 5 else out

    monkeypatch.setattr(LlamaDecoderLayer, "forward", forward)
    with pytest.raises(ModelError, match=r"cannot be streamed: .*run apart"):
        StreamedGame(source, texts())


def test_few_layers_are_read_to_check_one_of_each_class_and_the_last(tmp_path, monkeypatch):
    _, source = saved("llama", tmp_path, n_layers=6)
    game = StreamedGame(source, texts())
    assert game.checked.startswith("the first 2 layers, one of each class and the last on two")
    game.stack.layers[3].__class__ = type("Other", (LlamaDecoderLayer,), {})
    honest, read = game._weights._read_into, []

    def seen(entry, raw):
        read.append(entry.name)
        honest(entry, raw)

    monkeypatch.setattr(game._weights, "_read_into", seen)
    game.check_layers(telling_layers(game.stack))
    layers = {name.split(".")[2] for name in read if ".layers." in name}
    assert layers == {"0", "1", "3", "5"}
    game.check_layers()
    assert game.checked.startswith("all layers on two sequences")


@pytest.mark.parametrize("family", ["mllama", "reformer"])
def test_layers_that_are_called_in_a_way_of_their_own_are_refused(family, tmp_path):
    tiny_model(family, 4).save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=r"cannot be streamed: .*; load it whole"):
        StreamedGame(resolve(str(tmp_path / "model")), texts())


def test_a_head_that_fails_is_refused_before_a_pass(tmp_path, monkeypatch):
    _, source = saved("llama", tmp_path)

    def fail(*_):
        raise RuntimeError("expected m1 and m2 to have the same dtype")

    monkeypatch.setattr(ProjectionHead, "logits", fail)
    with pytest.raises(ModelError, match=r"its head run apart .* the same dtype; load it"):
        StreamedGame(source, texts())


def test_the_head_is_tried_on_states_as_the_last_layer_hands_them_on(tmp_path, monkeypatch):
    _, source = saved("mamba2", tmp_path)  # its states stay float32
    honest, seen = ProjectionHead.normed, []

    def normed(head, states):
        seen.append(states.dtype)
        return honest(head, states)

    monkeypatch.setattr(ProjectionHead, "normed", normed)
    with suppress(ModelError):
        StreamedGame(source, texts(), dtype=torch.bfloat16)
    assert seen == [torch.float32]


def test_layers_that_differ_from_the_model_are_refused(tmp_path, monkeypatch):
    _, source = saved("llama", tmp_path)
    honest = LayerStack.run
    monkeypatch.setattr(LayerStack, "run", lambda *given: 1.01 * honest(*given))
    with pytest.raises(ModelError, match="its layers, run apart, differ from the model"):
        StreamedGame(source, texts())


def test_other_texts_need_no_second_look_at_the_model(rng, tmp_path):
    model, source = saved("gemma3_text", tmp_path)
    first = StreamedGame(source, texts())
    before = first.traffic.bytes_read
    others = texts()[:, :7].flip(1)
    game = first.on(others)
    assert game.traffic.bytes_read - before < game.pass_bytes / game.n_players
    coalitions = some_coalitions(rng, game.n_players)
    found = observe_all(game, coalitions)
    expected = observe_all(ModelGame(model, others), coalitions)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=0, atol=5e-6)
    assert (first.passes, game.passes) == (0, 1)
    observe_all(first, coalitions)  # the first game is as it was
    assert first.length == 9


def test_a_coalition_that_breaks_down_is_named_with_its_layer_and_spoils_no_other(tmp_path):
    model, source = saved("llama", tmp_path)
    # Memory for so few states that the texts are divided among passes.
    game = StreamedGame(source, texts().repeat(40, 1), state_memory=400_000)
    coalitions = np.array([[1, 0, 0, 1], [1, 0, 1, 1]], dtype=bool)
    expected = observe_all(ModelGame(model, texts()), coalitions)
    seen = []
    model.model.layers[0].register_forward_hook(lambda module, args, output: seen.append(output))
    observe_all(ModelGame(model, texts()[:3]), np.array([[True, False, False, False]]))
    only = torch.cat(seen)  # what layer 0 makes of the first three texts

    def overflow(module, args, output):
        broken = [any(torch.allclose(row, bad, atol=1e-5) for bad in only) for row in args[0]]
        return torch.where(torch.tensor(broken)[:, None, None], torch.inf, output)

    game.stack.layers[3].register_forward_hook(overflow)
    found = observe_all(game, coalitions)
    assert game.passes > 1
    bad = np.arange(200) % 5 < 3
    np.testing.assert_array_equal(np.isfinite(found.nll[0]), ~bad)
    np.testing.assert_allclose(found.nll[1], np.tile(expected.nll[1], 40), rtol=0, atol=5e-6)
    told = [line.split(" has loss nan on ") for line in game.remarks]
    assert {coalition for coalition, _ in told} == {"coalition 1001"}
    assert sum(int(rest.split()[0]) for _, rest in told) == bad.sum()
    assert all("first not finite after layer 3" in rest for _, rest in told)


class CopiesOnTheProcessor(Copies):
    """Two halves in turn, as on a GPU, without its streams."""

    def __init__(self):
        self.next_half, self.arrived, self._half, self.halves = 0, [], 0, []

    def begin(self):
        pass

    def bring(self, layer):
        for _, kept, raw in layer:
            kept.copy_(raw)
        self.arrived = layer
        self.halves.append(self.next_half)

    def used(self):
        pass

    def drain(self):
        pass


def test_layers_that_are_copied_ahead_into_two_halves_give_the_same(rng, tmp_path, monkeypatch):
    _, source = saved("llama", tmp_path)
    tokens, copies = texts(), CopiesOnTheProcessor()
    plain = StreamedGame(source, tokens)
    coalitions = some_coalitions(rng, plain.n_players)
    expected = observe_all(plain, coalitions)
    monkeypatch.setattr(shards, "copies_to", lambda device: copies)
    found = observe_all(StreamedGame(source, tokens), coalitions)
    np.testing.assert_array_equal(found.nll, expected.nll)
    assert set(copies.halves) == {0, 1}
