"""The cut model as a draft of the full one: speculative decoding, arXiv:2211.17192.

The draft proposes tokens, the full model checks them all in one pass and keeps those it would have
chosen itself, so the text is the full model's and only the time changes. How many tokens it
proposes at once is transformers' rule: up to 20, fewer after its first one below probability 0.4.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from coterie.scores.speed import SpeedError, Timing, greedy, synchronize, vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Drafting:
    """What a draft is worth to a full model on some prompts."""

    acceptance: float
    """Share of the draft's proposals that the full model kept."""
    tokens_per_pass: float
    """New tokens per pass of the full model; 1 without a draft."""
    speedup: Timing
    """Seconds without a draft over seconds with it, prompt by prompt."""
    identical: float
    """Share of prompts whose text is the same with and without; below 1 only by rounding."""


@torch.inference_mode()
def measure_drafting(
    full: "PreTrainedModel",
    draft: "PreTrainedModel",
    prompts: torch.Tensor,
    *,
    new_tokens: int = 64,
) -> Drafting:
    """Generate after each prompt, greedily, with the draft and without.

    Args:
        full: The model whose text it is.
        draft: A faster model of the same vocabulary, on the same device.
        prompts: Token ids ``(n_prompts, length)``; taken one at a time.
        new_tokens: Tokens generated after each.

    Raises:
        SpeedError: no prompt, fewer than 2 new tokens, or two vocabularies.
    """
    sizes = [vocabulary_size(model) for model in (full, draft)]
    if sizes[0] != sizes[1]:
        raise SpeedError(
            f"the draft has {sizes[1]} tokens, the full model {sizes[0]}: no draft of it"
        )
    if prompts.ndim != 2 or len(prompts) == 0 or new_tokens < 2:
        raise SpeedError("drafting needs at least one prompt and 2 new tokens")
    settings = copy.deepcopy(draft.generation_config)  # drafting tunes it as it goes
    for warmup in (None, draft):
        _generate(full, warmup, prompts[:1], new_tokens)
    ratios, same = [], 0
    with _passes(full) as full_passes, _passes(draft) as draft_passes:
        for prompt in prompts.split(1):
            before = full_passes.count
            alone, seconds_alone = _generate(full, None, prompt, new_tokens)
            full_passes.count = before  # only the passes with a draft count
            helped, seconds_helped = _generate(full, draft, prompt, new_tokens)
            ratios.append(seconds_alone / seconds_helped)
            same += int(torch.equal(alone, helped))
    draft.generation_config = settings
    produced = new_tokens * len(prompts)
    # Every pass of the full model adds one token of its own to the proposals it keeps.
    return Drafting(
        acceptance=(produced - full_passes.count) / draft_passes.count,
        tokens_per_pass=produced / full_passes.count,
        speedup=Timing(tuple(ratios)),
        identical=same / len(prompts),
    )


@dataclass
class _Passes:
    count: int = 0


@contextmanager
def _passes(model: "PreTrainedModel") -> Iterator[_Passes]:
    """Count the forward passes of a model."""
    passes = _Passes()

    def one_more(_module: torch.nn.Module, _inputs: tuple[torch.Tensor, ...]) -> None:
        passes.count += 1

    handle = model.register_forward_pre_hook(one_more)
    try:
        yield passes
    finally:
        handle.remove()


def _generate(
    full: "PreTrainedModel", draft: "PreTrainedModel | None", prompt: torch.Tensor, new_tokens: int
) -> tuple[torch.Tensor, float]:
    start = perf_counter()
    text = full.generate(  # type: ignore[operator]
        prompt,
        attention_mask=torch.ones_like(prompt),
        generation_config=greedy(new_tokens),
        assistant_model=draft,
    )
    synchronize(full.device)
    assert isinstance(text, torch.Tensor)
    return text, perf_counter() - start
