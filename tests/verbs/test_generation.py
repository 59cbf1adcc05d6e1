"""The verdict sees what users feel: a cut that writes in circles is named so."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from coterie.models.loaded.blocks import find_players
from coterie.report.page.generation import generation
from coterie.report.schema.generation import GenerationPart
from coterie.report.schema.verdict import DifferencePart, PerplexityPart, VerdictPart
from coterie.report.terminal.generation import print_generation, print_warning
from coterie.report.wording.generation import generation_warning
from coterie.scores import generation as scores
from coterie.scores.generation import continued, ends_of, prompts_of, surprise, write_plainly
from coterie.scores.repetition import first_loop, in_common, repeated_share
from coterie.texts.sets import TextSet
from coterie.verbs.evaluate.generation import Continued, generation_part, judge_generation
from coterie.verbs.shared.grades import graded

N = 64
CUT = [True, False]


@pytest.fixture(scope="module")
def counting():
    """A model of two layers that writes t, t + 1, t + 2, …; without its second: t, t, t, …"""
    config = LlamaConfig(
        vocab_size=N,
        hidden_size=N,
        intermediate_size=N,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        eos_token_id=None,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for one in model.parameters():
            one.zero_() if one.ndim == 2 else one.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(N))
        model.lm_head.weight.copy_(0.2 * torch.eye(N))
        second = model.model.layers[1].mlp
        second.gate_proj.weight.copy_(10 * torch.eye(N))
        second.up_proj.weight.copy_(torch.eye(N))
        second.down_proj.weight.copy_(torch.eye(N).roll(1, dims=0))
    return model


class Words:
    """A tokenizer of numbers, without a chat template or with one."""

    def __init__(self, template=None):
        self.chat_template = template

    def decode(self, ids):
        return " ".join(map(str, np.asarray(ids).tolist()))

    def apply_chat_template(self, asked, tokenize, add_generation_prompt):
        return f"<u>{asked[0]['content']}<a>"

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [len(text), 3]}


def texts(length=32, n=6):
    tokens = np.stack([np.repeat(np.arange(length // 2), 2) + i for i in range(n)])
    return TextSet(tokens, np.arange(n) // 2, ("a", "b", "c"), "numbers", bos=False)


@pytest.fixture(scope="module")
def part(counting):
    return judge_generation(counting, find_players(counting, "layer"), CUT, texts(), Words())


def test_loops_and_repeats_are_what_they_say():
    counting = np.arange(40)
    assert first_loop(counting) is None and repeated_share(counting) == 0.0
    assert first_loop(np.r_[counting, [7] * 8]) == 40
    assert first_loop(np.r_[0, 5, 6, 7, 5, 6, 7, 5, 6, 7]) == 1
    assert first_loop(np.r_[5, 6, 5, 6, 5, 6]) is None  # six tokens are too few to be a loop
    assert (
        repeated_share(np.zeros(8, dtype=int)) == pytest.approx(0.8)
        and repeated_share(counting[:3]) is None
    )
    assert in_common(counting[:5], np.r_[0, 1, 9]) == 2 and in_common(counting[:2], counting) == 2


def test_a_cut_that_ends_at_once_is_named_so_and_compared_over_all_tokens(counting, monkeypatch):
    prompts = prompts_of(texts(), Words())
    monkeypatch.setattr(counting.generation_config, "eos_token_id", list(range(N)))
    silent = continued(counting, prompts)
    assert silent.tokens == prompts.new_tokens and all(len(text) == 0 for text in silent.texts)
    full = replace(silent, texts=tuple(np.arange(prompts.new_tokens) for _ in silent.texts))
    part = generation_part(Continued(prompts, full, silent, (None, None)), Words())
    assert part.broken.startswith("what it writes ends at once: after 0.0 tokens")
    assert part.compared == min(32, prompts.new_tokens) and part.agreement == 0
    assert generation_part(Continued(prompts, full, full, (None, None)), Words()).broken is None


def test_a_cut_that_goes_round_in_circles_is_named_so_though_its_perplexity_is_fine(part):
    assert part.full.loops == 0 and part.smaller.loops == 1 and part.smaller.to_loop == 0
    assert part.smaller.repeated > 0.9 and part.in_common == 0 and part.agreement < 0.1
    assert "circles: 100% of its continuations loop" in part.broken
    same = PerplexityPart(3.0, 20.0, 0.1)
    verdict = VerdictPart(same, same, DifferencePart(0.0, 0.1, 3), 1.0, 0.1, 0.9, 0)
    told = graded(replace(verdict, generation=part), N)
    assert told.sentence.startswith("Close") and "what it writes has broken" in told.sentence
    assert "usable as it is" in graded(verdict, N).sentence
    screen = io.StringIO()
    out = Console(file=screen, force_terminal=True, width=200, highlight=False)
    print_warning(part, 1.0, out)
    print_generation(part, out)
    assert "\x1b[1;31mGeneration broke, though its perplexity is only ×1.00" in screen.getvalue()
    assert "continuations that loop" in screen.getvalue()
    assert "though" not in generation_warning(part, 4.0)
    page = generation(part)
    assert "this one writes" in page and part.samples[0].smaller in page
    assert GenerationPart.from_json(part.as_json()) == part


def test_a_model_that_is_whole_agrees_with_itself(counting):
    whole = judge_generation(
        counting, find_players(counting, "layer"), [True, True], texts(), Words()
    )
    assert whole.agreement == 1 and whole.broken is None and whole.full == whole.smaller
    assert generation_warning(whole, 1.0) is None and generation_warning(None, 1.0) is None


def test_with_a_cache_and_without_one_the_same_is_written_and_read(counting):
    prompts = prompts_of(texts(), Words())

    def predict(ids):
        return counting(input_ids=ids, use_cache=False).logits

    one, where = continued(counting, prompts), torch.device("cpu")
    two = write_plainly(predict, prompts, ends_of(counting), device=where, seconds=60.0)
    assert all(map(np.array_equal, one.texts, two.texts)) and one.tokens == 24 == two.tokens
    row = np.concatenate([prompts.ids[0], one.texts[0]])[None]
    logs = predict(torch.from_numpy(row))[0, :-1].detach().log_softmax(-1)
    own = -logs[7:].gather(1, torch.from_numpy(row[0, 8:, None])).mean().item()
    first = replace(prompts, ids=prompts.ids[:1])
    read = surprise(predict, first, replace(one, texts=one.texts[:1]), where)
    assert read == pytest.approx(own, rel=1e-5)


def test_prompts_are_of_many_documents_and_chat_models_are_asked_through_their_template():
    plain = prompts_of(texts(), Words())
    assert plain.ids.shape == (6, 8) and not plain.chat
    assert plain.ids[:3, 0].tolist() == [0, 2, 4]  # one of each document first
    chat = prompts_of(texts(), Words("{{ messages }}"))
    assert chat.chat and chat.ids.shape == (6, 12) and np.array_equal(chat.ids[:, 2:10], plain.ids)
    assert chat.ids[0, 0] == len("<u>") + len(scores._ASKED)
    assert prompts_of(texts(length=2), Words()) is None


def test_an_end_of_text_ends_a_continuation(counting):
    counting.config.eos_token_id = counting.generation_config.eos_token_id = 12
    try:
        found = continued(counting, prompts_of(texts(n=1), Words()))
    finally:
        counting.config.eos_token_id = counting.generation_config.eos_token_id = None
    assert found.texts[0].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]


def test_time_ends_a_continuation_but_not_before_there_is_something_to_read(counting, monkeypatch):
    monkeypatch.setattr(scores, "LEAST", 5)
    prompts = prompts_of(texts(), Words())
    assert continued(counting, prompts, seconds=0.0).tokens == 5
    assert continued(counting, prompts, seconds=1e9).tokens == 24
