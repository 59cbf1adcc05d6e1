"""A repair from disk: what it writes is what a repair in memory writes, and two layers suffice."""

import weakref

import numpy as np
import pytest
import torch
from tests.repair.laws import made, texts
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from coterie.engine.disk.layer_weights import ShardedWeights
from coterie.errors import MachineError, RepairError
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.models.tolerance import tolerance
from coterie.quantization.schemes import SchemeError
from coterie.repair.choose import repaired, repaired_weights
from coterie.repair.repairable import WholeModel
from coterie.repair.streamed import StreamedModel, check_streamed_repair, in_a_file
from coterie.repair.table import REPAIRS
from coterie.repair.walk import STATES

KEPT = (0, 1, 3, 5)
"""Of six layers: a gap between kept ones, and one before the last."""


class Opened:
    """A checkpoint, in memory and from disk, and texts that it would write."""

    def __init__(self, kind, folder, dtype):
        model, _ = made(kind, n_layers=6)
        self.fit, self.select = texts(model, 48), texts(model, 6, seed=1)
        model.to(torch.bfloat16).save_pretrained(folder)
        self.source, self.dtype = resolve(str(folder)), dtype
        model = load_model(self.source, dtype=dtype, device="cpu")
        self.whole = WholeModel(model, find_stack(model))
        self.streamed = StreamedModel(
            self.source, self.select, dtype=dtype, device=torch.device("cpu")
        )


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    known = {}

    def open_(kind, dtype=torch.float32):
        if (kind, dtype) not in known:
            known[kind, dtype] = Opened(kind, tmp_path_factory.mktemp(kind), dtype)
        return known[kind, dtype]

    return open_


def same(found, wanted, dtype):
    """Both repairs changed the same parameters, to the same values but for rounding."""
    assert found.keys() == wanted.keys() and wanted
    for name, value in wanted.items():
        gap = (found[name].float() - value.float()).abs().max()
        assert gap <= tolerance(dtype).entries * value.float().abs().max(), (name, float(gap))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("name", REPAIRS)
def test_streamed_and_in_memory_the_same_weights_come_out(opened, kind, name):
    one = opened(kind)
    wanted, its = repaired_weights(one.whole, KEPT, one.fit, REPAIRS[name])
    found, refitted = repaired_weights(one.streamed, KEPT, one.fit, REPAIRS[name])
    same(found, wanted, one.dtype)
    assert [(each.layer, each.maps, each.ridge) for each in refitted] == [
        (each.layer, each.maps, each.ridge) for each in its
    ]
    np.testing.assert_allclose(
        one.streamed.losses(KEPT, one.select, found),
        one.whole.losses(KEPT, one.select, wanted),
        atol=tolerance(one.dtype).reordered_nats,
    )


def test_in_half_precision_too(opened):
    one = opened("llama", torch.bfloat16)
    wanted, _ = repaired_weights(one.whole, KEPT, one.fit, REPAIRS["spread"])
    found, _ = repaired_weights(one.streamed, KEPT, one.fit, REPAIRS["spread"])
    same(found, wanted, one.dtype)
    assert all(value.dtype == one.dtype for value in found.values())


class Held:
    """Counts layers that have weights, and those that lie in a buffer as they were read."""

    def __init__(self, stack, weights, monkeypatch):
        self.most = 0
        hold = ShardedWeights.hold

        def counted(self_, layer, following=None):
            hold(self_, layer, following)
            here = [any(not p.is_meta for p in one.parameters()) for one in stack.layers]
            assert here[layer]
            self.most = max(self.most, sum(here) + (self_._coming is not None))

        monkeypatch.setattr(ShardedWeights, "hold", counted)


@pytest.mark.parametrize("name", ["scalar", "spread"])
def test_two_layers_are_in_memory_and_the_model_is_left_as_it_was(opened, monkeypatch, name):
    one = opened("llama")
    held = Held(one.streamed.stack, one.streamed.weights, monkeypatch)
    before = one.streamed.losses(KEPT, one.select, {})
    done = repaired(one.streamed, KEPT, (one.fit, one.select), name)
    assert held.most == 2 and done.losses[name].mean() != done.loss.mean()
    np.testing.assert_array_equal(before, done.loss)
    np.testing.assert_array_equal(one.streamed.losses(KEPT, one.select, {}), before)
    assert all(parameter.is_meta for parameter in one.streamed.model.parameters())


class Tables(TorchDispatchMode):
    """Counts tensors alive that are as large as the states of all texts."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.alive, self.most = numel, {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, torch.Tensor) and one.untyped_storage().nbytes() >= 4 * self.numel:
                key = one.untyped_storage().data_ptr()
                if key not in self.alive:
                    self.alive[key] = 0
                self.alive[key] += 1
                weakref.finalize(one, self.drop, key)
                self.most = max(self.most, len(self.alive))
        return out

    def drop(self, key):
        self.alive[key] -= 1
        if not self.alive[key]:
            del self.alive[key]


def test_states_are_held_as_often_as_was_stated(opened, monkeypatch):
    one = opened("llama")
    monkeypatch.setattr("coterie.repair.walk.TOKENS_A_CALL", 8 * one.fit.shape[1])
    width = one.streamed.model.config.hidden_size
    with Tables(one.fit.size * width) as tables:
        repaired_weights(one.streamed, KEPT, one.fit, REPAIRS["spread"])
    assert tables.most == STATES


def test_a_tensor_in_a_file_is_a_tensor(monkeypatch):
    found = in_a_file(torch.Size([3, 5]), torch.bfloat16)
    wanted = torch.randn(3, 5).bfloat16()
    assert torch.equal(found.copy_(wanted), wanted)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(MachineError, match=r"30 bytes finds no room .* with TMPDIR"):
        in_a_file(torch.Size([3, 5]), torch.bfloat16)


def test_what_cannot_be_streamed_is_told_before_a_weight_is_read(opened, tmp_path, monkeypatch):
    source = opened("llama").source
    check_streamed_repair(source)
    shared = "coterie.repair.streamed.find_stack"
    with monkeypatch.context() as patch:

        def doubled(model):
            stack = find_stack(model)
            return type(stack)(stack.path, (stack.layers[0], *stack.layers[:-1]), {})

        patch.setattr(shared, doubled)
        with pytest.raises(RepairError, match="share weights, so none can be refitted alone"):
            check_streamed_repair(source)
    with monkeypatch.context() as patch:
        config = source.config()
        config.quantization_config = {"quant_method": "x"}
        patch.setattr(type(source), "config", lambda self: config)
        with pytest.raises(SchemeError, match="is quantized already"):
            check_streamed_repair(source)
