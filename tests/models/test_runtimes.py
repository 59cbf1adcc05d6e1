"""Which cuts a runtime reads rightly: the rules, the nearest readable cut, and the refusals."""

import itertools
import re

import numpy as np
import pytest
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    SmolLM3Config,
)

from coterie.errors import CutError
from coterie.models.runtimes.block_rules import BlockShape, block_locks, misread_blocks
from coterie.models.runtimes.names import RUNTIMES
from coterie.models.runtimes.serving import check_served, serving_of
from coterie.models.runtimes.table import RULES, SEEN
from coterie.models.runtimes.verdicts import block_verdicts, layer_verdicts


def gemma3(n_layers=12):
    return Gemma3TextConfig(num_hidden_layers=n_layers, query_pre_attn_scalar=256, head_dim=256)


def readable(serving, size):
    return [
        kept
        for kept in itertools.combinations(range(serving.n_layers), size)
        if serving.misread(kept) is None
    ]


def test_a_cut_that_keeps_the_period_is_read_rightly_and_no_other():
    serving = serving_of(gemma3(), ("llama.cpp",), 12)
    assert serving.misread(range(6)) is None  # a whole period
    assert serving.misread([*range(5), *range(11, 12)]) is None  # another layer of the same kind
    assert "layers slide by their number" in serving.misread([*range(5), *range(6, 12)])
    assert serving.misread([*range(5), *range(6, 12)], carried=True) is None


def test_the_nearest_readable_cut_is_the_nearest_of_all():
    serving = serving_of(gemma3(), ("llama.cpp",), 12)
    for kept in ([0, 1, 2, 3, 4, 6, 7, 8, 9, 10], [1, 2, 3, 4, 5, 6, 7, 8, 10, 11]):
        common = len(set(kept) & set(serving.nearest(kept)))
        assert common == max(len(set(kept) & set(one)) for one in readable(serving, len(kept)))
        assert serving.misread(serving.nearest(kept)) is None


def test_the_heaviest_readable_cut_is_the_heaviest_of_all():
    weights = np.random.default_rng(0).normal(size=12)
    serving = serving_of(gemma3(), ("llama.cpp", "mlx"), 12)
    for size in (6, 7, 10):
        best = serving.best(weights, size, locked=(3,))
        heaviest = max(weights[list(one)].sum() for one in readable(serving, size) if 3 in one)
        assert weights[list(best)].sum() == pytest.approx(heaviest) and 3 in best


def test_several_runtimes_bind_together():
    assert not serving_of(gemma3(), ("transformers", "vllm"), 12).restricts
    both = serving_of(gemma3(), ("vllm", "mlx", "llama.cpp"), 12)
    assert both.misread(range(6)) is None and both.misread(range(1, 7)).startswith("mlx")
    assert both.misread(range(5)) == "mlx fails with fewer than 6 layers, one period"
    assert serving_of(gemma3(), ("llama.cpp",), 12).misread(range(5)) is None


def test_a_runtime_may_need_a_layer_of_every_kind():
    serving = serving_of(GptOssConfig(num_hidden_layers=6), ("mlx",), 6)
    assert serving.misread([0, 1, 2]) is None and "does not load" in serving.misread([1, 3, 5])
    weights = np.array([0.0, 5.0, 1.0, 5.0, 0.0, 5.0])
    assert serving.best(weights, 3) == (1, 2, 3)
    assert serving.best(weights, 1) is None and set(serving.nearest([1, 3, 5])) & {0, 2, 4}


def test_a_scale_that_hangs_on_the_number_of_layers_is_a_rule():
    shape = {"hidden_size": 4608, "num_attention_heads": 32, "head_dim": 128}
    large = Gemma2Config(num_hidden_layers=46, query_pre_attn_scalar=144, **shape)
    serving = serving_of(large, ("llama.cpp",), 46)
    assert "number of layers" in serving.misread(range(44)) and serving.nearest(range(44)) is None
    with pytest.raises(CutError, match="no cut of this model is right there"):
        check_served(serving, range(44))


def test_layers_without_rotary_follow_their_number_too():
    serving = serving_of(SmolLM3Config(num_hidden_layers=8), ("llama.cpp",), 8)
    assert serving.misread(range(4)) is None
    assert "which layers rotate" in serving.misread(range(1, 8))


def test_a_refused_cut_names_the_nearest_one():
    serving = serving_of(gemma3(18), ("llama.cpp",), 18)
    kept = [layer for layer in range(18) if layer not in (8, 10)]
    with pytest.raises(CutError) as refused:
        check_served(serving, kept)
    told = str(refused.value)
    gone = [int(one) for one in re.search(r"--layers ([\d,]+)", told)[1].split(",")]
    assert serving.misread([layer for layer in range(18) if layer not in gone]) is None
    assert "\n" not in told


def test_every_runtime_says_how_it_reads_a_cut():
    verdicts = layer_verdicts(gemma3(), [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11], 12)
    assert tuple(one.runtime for one in verdicts) == RUNTIMES
    reads = {one.runtime: one.reads for one in verdicts}
    assert reads["transformers"] == reads["llama.cpp"] == "rightly" and reads["mlx"] == "wrongly"
    assert "coterie export" in next(one.remark for one in verdicts if one.runtime == "llama.cpp")
    plain = layer_verdicts(LlamaConfig(num_hidden_layers=4), [0, 2], 4)
    assert {one.runtime: one.reads for one in plain}["vllm"] == "rightly"


def shape(attention=(), mlp=(), width=256, head_dim=16):
    fields = {"hidden_size": 64, "num_attention_heads": 4, "head_dim": head_dim}
    kept = tuple(i for i in range(4) if not (i in attention and i in mlp))
    return BlockShape.of({**fields, "intermediate_size": width}, kept, attention, mlp)


def test_blocks_a_runtime_does_not_do_without():
    assert misread_blocks("llama.cpp", shape(attention=(2,))) is None
    assert "skips the attention of layer 2" in misread_blocks("llama.cpp", shape(mlp=(2,)))
    assert misread_blocks("vllm", shape(mlp=(2,))) is None
    for runtime in ("vllm", "llama.cpp"):
        assert "first layer" in misread_blocks(runtime, shape(attention=(0,)))
        # The first layer goes whole: the next one is the first.
        assert misread_blocks(runtime, shape(attention=(0, 1), mlp=(0,))) is not None
    assert misread_blocks("mlx", shape(attention=(0,))) is None
    assert "multiple of 256" in misread_blocks("mlx", shape(width=200))
    assert "as wide" in misread_blocks("llama.cpp", shape(head_dim=32))
    assert misread_blocks("transformers", shape(attention=(0,), mlp=(1,), width=200)) is None
    reads = {one.runtime: one.reads for one in block_verdicts(shape(mlp=(1,)))}
    assert reads["mlx"] == "rightly" and reads["llama.cpp"] == "wrongly"


def test_blocks_that_stay_for_a_runtime_are_locked():
    assert list(block_locks(("vllm",), 3)) == ["0.attention"]
    assert set(block_locks(("llama.cpp",), 2)) == {"0.attention", "0.mlp", "1.mlp"}
    assert not block_locks(("mlx", "transformers"), 3)


def test_rules_and_what_was_seen_speak_of_the_runtimes_there_are():
    assert set(RULES) == set(SEEN) == set(RUNTIMES)
