"""Speed: what is counted and how it is summed up; no time is asserted."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from coterie.scores.peak_memory import peak_memory
from coterie.scores.speed import SpeedError, measure_speed, random_tokens, weight_bytes
from coterie.scores.timing import Load, Timing


def tiny_llama(layers, *, seed=0, vocabulary=64):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def tiny_mamba():
    return MambaForCausalLM(
        MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    ).eval()


def test_every_model_is_timed_every_round_and_asked_for_exactly_its_tokens(rng):
    models = {"dense": tiny_llama(3), "cut": tiny_llama(2), "mamba": tiny_mamba()}
    asked = {name: [] for name in models}
    for name, model in models.items():
        model.register_forward_pre_hook(
            lambda _, inputs, kwargs, name=name: asked[name].append(kwargs["input_ids"].shape[1]),
            with_kwargs=True,
        )
    speeds = measure_speed(models, Load(2, 9, 4), rng=rng, rounds=3, warmup=1)
    for name, speed in speeds.items():
        for timing in (speed.prefill, speed.first_token, speed.next_token):
            assert len(timing.rounds) == 3 and min(timing.rounds) > 0
        # Prefill, then a generation with its own prefill and three steps of one token; one round
        # warms up, one measures memory.
        assert asked[name] == [9, 9, 1, 1, 1] * 5


def test_an_end_token_does_not_end_a_generation_early(rng):
    model = tiny_llama(2)
    model.generation_config.eos_token_id = list(range(64))
    passes = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    measure_speed({"m": model}, Load(1, 4, 6), rng=rng, rounds=1, warmup=0)
    assert len(passes) == 2 * (1 + 6)


def test_rates_follow_from_the_load_and_the_medians(rng):
    (speed,) = measure_speed({"m": tiny_llama(1)}, Load(3, 8, 2), rng=rng, rounds=2).values()
    np.testing.assert_allclose(speed.prefill_tokens_per_second, 24 / speed.prefill.median)
    np.testing.assert_allclose(speed.decode_tokens_per_second, 3 / speed.next_token.median)


def test_a_ratio_is_taken_round_by_round():
    slow, fast = Timing((4.0, 8.0, 6.0)), Timing((2.0, 4.0, 1.0))
    assert slow.over(fast).rounds == (2.0, 2.0, 6.0)
    assert slow.over(fast).median == 2.0
    assert Timing((1.0, 2.0, 3.0, 4.0, 5.0)).quartiles == (2.0, 4.0)


def test_weights_are_counted_once_where_they_are_tied():
    model = tiny_llama(2)
    alone = sum(p.numel() for p in model.parameters()) * 4
    assert alone <= weight_bytes(model) <= alone + 1_000  # rotary buffers


def test_peak_memory_sees_a_block_and_not_what_was_there_before():
    kept = torch.ones(8_000_000)
    with peak_memory(torch.device("cpu")) as nothing:
        pass
    with peak_memory(torch.device("cpu")) as peak:
        torch.ones(16_000_000).sum()
    if peak() is None:
        pytest.skip("this system does not tell the resident memory of a process")
    assert nothing() < 10_000_000 < 50_000_000 < peak() < 120_000_000
    assert kept[0] == 1


def test_memory_freed_by_one_block_does_not_hide_in_the_next():
    def block():
        torch.cat([torch.ones(1_000_000) for _ in range(20)]).sum()

    peaks = []
    for _ in range(3):
        with peak_memory(torch.device("cpu")) as peak:
            block()
        peaks.append(peak())
    if peaks[0] is None:
        pytest.skip("this system does not tell the resident memory of a process")
    assert min(peaks) > 0.8 * max(peaks) > 60_000_000


def test_random_tokens_are_of_the_vocabulary_and_of_the_seed():
    model = tiny_llama(1)
    first, again = (random_tokens(model, 4, 50, np.random.default_rng(1)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (4, 50)
    assert first.min() >= 0 and first.max() < 64


@pytest.mark.parametrize(
    ("load", "complaint"),
    [
        (Load(0, 8, 4), "must be at least 1"),
        (Load(1, 8, 1), "new_tokens 2"),
        (Load(1, 60, 5), "'m' reads 64 tokens at once, and 60 \\+ 5 new ones are asked"),
    ],
)
def test_a_load_that_cannot_be_timed_is_refused(rng, load, complaint):
    with pytest.raises(SpeedError, match=complaint):
        measure_speed({"m": tiny_llama(1)}, load, rng=rng)


def test_a_model_that_runs_out_of_memory_is_named(rng, monkeypatch):
    model = tiny_llama(1)

    def fail(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(SpeedError, match="'m' with batch 2 and context 8 does not fit"):
        measure_speed({"m": model}, Load(2, 8, 4), rng=rng)
