"""What a model writes: greedy continuations of held-out texts, and how likely others find them.

All prompts have the same number of tokens, so no padding is needed and none can be wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, process_time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from coterie.models.loaded.routing import input_device
from coterie.scores.repetition import Ids
from coterie.texts.sets import TextSet, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 16, 32, 64
"""Texts that are continued, tokens they begin with, and tokens that are written."""

LEAST = 32
"""Tokens that are written whatever the time: fewer would tell nothing."""

SECONDS = 25.0
"""Most seconds that one model writes: two write and one reads within a minute."""

_ASKED = "Continue this text:\n\n"
"""What a chat model is told before the text."""

_MARK = "<<the text itself>>"

UNABLE = (RuntimeError, ValueError, TypeError, AttributeError, LookupError)
"""What transformers raises where a family cannot write with its cache."""

Predict = Callable[[Tensor], Tensor]
"""From token ids ``(n_texts, n_tokens)`` to logits with the vocabulary as the last axis."""


class CannotWrite(Exception):
    """A model that transformers cannot let write."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Beginnings of texts, all of equal length.

    Attributes:
        ids: ``(n_prompts, n_tokens)``, the chat template's tokens among them.
        texts: Token ids of the held-out texts alone, ``(n_prompts, n_text_tokens)``.
        new_tokens: Tokens that are written after each.
        chat: Whether they are put as a question to a chat model.
    """

    ids: Tokens
    texts: Tokens
    new_tokens: int
    chat: bool


@dataclass(frozen=True, eq=False)
class Continuations:
    """What a model wrote.

    Attributes:
        texts: Token ids of each continuation, up to the end-of-text token, without it.
        tokens: Tokens that were written at most: fewer than asked where time ran out.
    """

    texts: tuple[Ids, ...]
    tokens: int


def prompts_of(texts: TextSet, tokenizer: "PreTrainedTokenizerBase") -> Prompts | None:
    """Beginnings of held-out texts, one of each document before a second of any.

    Args:
        texts: The held-out sequences.
        tokenizer: The model's; if it has a chat template, texts are put through that.

    Returns:
        None where sequences are too short to be begun and continued.
    """
    # A quarter is the beginning, and what is written fills the sequence at most.
    n, new = min(PROMPT_TOKENS, texts.length // 4), min(NEW_TOKENS, 3 * texts.length // 4)
    if n < 1 or new < 1:
        return None
    rounds = np.array([np.sum(texts.documents[:i] == d) for i, d in enumerate(texts.documents)])
    rows = np.argsort(rounds, kind="stable")[:PROMPTS]
    own = texts.tokens[rows, :n]
    around = _template(tokenizer)
    if around is None:
        return Prompts(own, own, new, chat=False)
    # The model's own first token stands in the template already.
    own = own[:, 1:] if texts.bos and n > 1 else own
    before, after = (np.tile(np.array(part, dtype=np.int64), (len(own), 1)) for part in around)
    return Prompts(np.concatenate([before, own, after], axis=1), own, new, chat=True)


def _template(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]] | None:
    """Tokens that a chat template puts before and after what is asked; None where it has none."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    asked = [{"role": "user", "content": _ASKED + _MARK}]
    try:
        whole = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    except Exception:  # a template is a program of somebody else and raises anything
        return None
    before, mark, after = str(whole).partition(_MARK)
    if not mark:
        return None
    parts = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after))
    first, last = map(list, parts)
    return first, last


def ends_of(model: "PreTrainedModel") -> list[int]:
    """The tokens with which a model ends a text."""
    for config in (model.generation_config, model.config):
        found = getattr(config, "eos_token_id", None)
        if found is not None:
            return [found] if isinstance(found, int) else list(found)
    return []


@torch.no_grad()
def continued(
    model: "PreTrainedModel", prompts: Prompts, *, seconds: float = SECONDS
) -> Continuations:
    """Continue all prompts greedily, in one batch, with the model's cache.

    Args:
        model: In evaluation mode.
        prompts: What is continued.
        seconds: After so many, no token beyond the least is begun.

    Raises:
        CannotWrite: transformers has no working cache for this family.
    """
    ids, ends = torch.from_numpy(prompts.ids).to(input_device(model)), ends_of(model)
    kept = model.generation_config
    # Nothing but greedy: penalties of repetition would hide what is looked for.
    model.generation_config = GenerationConfig(
        max_new_tokens=prompts.new_tokens,
        do_sample=False,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
    )
    clock = _Clock(seconds, ids.shape[1], ids.device)
    try:
        mask = torch.ones_like(ids)
        stop = StoppingCriteriaList([clock])
        asked = {"attention_mask": mask, "use_cache": True, "stopping_criteria": stop}
        found = model.generate(ids, **asked)  # type: ignore[operator]
    except UNABLE as error:
        raise CannotWrite(str(error)) from error
    finally:
        model.generation_config = kept
    new = found[:, ids.shape[1] :].cpu().numpy()
    # Fewer columns may also say that every text has ended: all could have gone on.
    return _until_the_end(new, ends, new.shape[1] if clock.ended else prompts.new_tokens)


class _Clock(StoppingCriteria):
    """Ends all continuations when the time is over, but not before there is something to read.

    On a CPU the time is what this process has computed, so that a busy machine, on which others
    compute too, gets the same answer.
    """

    def __init__(self, seconds: float, before: int, device: torch.device) -> None:
        self.seconds, self.before, self.device = seconds, before, device
        self.ended = False
        self._began = self._now()

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        over = self.is_over(input_ids.shape[1] - self.before)
        return torch.full((len(input_ids),), over, device=input_ids.device)

    def is_over(self, written: int) -> bool:
        """Whether no other token is begun."""
        self.ended = written >= LEAST and self._now() - self._began > self.seconds
        return self.ended

    def _now(self) -> float:
        if self.device.type == "cpu":
            return process_time() / max(1, torch.get_num_threads())
        return monotonic()


@torch.no_grad()
def write_plainly(
    predict: Predict, prompts: Prompts, ends: list[int], *, device: torch.device, seconds: float
) -> Continuations:
    """The same without a cache: the whole text is read again for every token.

    Args:
        predict: Gives the logits.
        prompts: What is continued.
        ends: Tokens that end a text.
        device: Where token ids go.
        seconds: After so many, no token beyond the least is begun.
    """
    ids = torch.from_numpy(prompts.ids).to(device)
    n = ids.shape[1]
    clock = _Clock(seconds, n, device)
    for done in range(1, prompts.new_tokens + 1):
        following = predict(ids)[:, -1:].argmax(dim=-1).to(device)
        ids = torch.cat([ids, following], dim=1)
        if clock.is_over(done):
            break
    return _until_the_end(ids[:, n:].cpu().numpy(), ends, ids.shape[1] - n)


def _until_the_end(rows: Tokens, ends: list[int], allowed: int) -> Continuations:
    texts = []
    for row in rows:
        places = np.flatnonzero(np.isin(row, ends))
        texts.append(row[: places[0]] if len(places) else row)
    return Continuations(tuple(texts), allowed)


@torch.no_grad()
def surprise(
    predict: Predict, prompts: Prompts, written: Continuations, device: torch.device
) -> float | None:
    """Mean negative log-likelihood of what was written after its prompts, nats per token.

    Args:
        predict: Logits of whoever reads.
        prompts: What was continued.
        written: The continuations.
        device: Where token ids go.

    Returns:
        None where nothing was written.
    """
    total, tokens = 0.0, 0
    for prompt, text in zip(prompts.ids, written.texts, strict=True):
        if not len(text):
            continue
        ids = torch.from_numpy(np.concatenate([prompt, text]))[None].to(device)
        logits = predict(ids)[0, len(prompt) - 1 : -1].float()
        wanted = ids[0, len(prompt) :].to(logits.device)
        total += cross_entropy(logits, wanted, reduction="sum").item()
        tokens += len(text)
    return total / tokens if tokens else None
