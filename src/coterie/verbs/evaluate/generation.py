"""What a smaller model writes, judged beside the full one; one set of weights is in memory."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from coterie.errors import CutError
from coterie.models.cutting.in_memory import cut_model
from coterie.models.loaded.routing import input_device, routed
from coterie.models.loaded.stack import Stack
from coterie.plain import finite
from coterie.report.schema.generation import GenerationPart, SamplePart, WriterPart
from coterie.scores.generation import (
    SECONDS,
    CannotWrite,
    Continuations,
    Prompts,
    continued,
    ends_of,
    prompts_of,
    surprise,
    write_plainly,
)
from coterie.scores.repetition import first_loop, in_common, repeated_share
from coterie.texts.sets import TextSet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

COMPARED = 32
"""First tokens over which both continuations are compared."""

SAMPLES = 3
"""Continuations that a report shows side by side."""

LOOPS, REPEATED = 0.3, 0.25
"""How much more than the full model's share of loops, or of repeated 4-grams, breaks generation."""

SHORT = 0.25
"""Less than this share of the full model's tokens, and what is written ends before it says much."""


@dataclass(frozen=True)
class Continued:
    """What two models wrote after the same prompts.

    Attributes:
        prompts: What was continued.
        full: By the full model.
        smaller: By the other.
        read: Loss of both under the full model, nats per token; None where nothing was written.
    """

    prompts: Prompts
    full: Continuations
    smaller: Continuations
    read: tuple[float | None, float | None]


def judge_generation(
    model: "PreTrainedModel",
    stack: Stack,
    coalition: Sequence[bool],
    texts: TextSet,
    tokenizer: "PreTrainedTokenizerBase",
) -> GenerationPart | None:
    """Let the full model write, and then the same weights without what is cut.

    Args:
        model: The full model, in evaluation mode.
        stack: Its players.
        coalition: True for each player that stays.
        texts: Held-out sequences, whose beginnings are continued.
        tokenizer: The model's.

    Returns:
        None where nothing can be continued: texts too short, or a model that cannot write.
    """
    prompts = prompts_of(texts, tokenizer)
    if prompts is None:
        return None
    try:
        full = continued(model, prompts)
        smaller = _written_without(model, stack, coalition, prompts)
        read = [read_by(model, prompts, one) for one in (full, smaller)]
    except CannotWrite as error:
        log.warning("this model cannot continue a text: %s", error)
        return None
    return generation_part(Continued(prompts, full, smaller, (read[0], read[1])), tokenizer)


def read_by(model: "PreTrainedModel", prompts: Prompts, written: Continuations) -> float | None:
    """Loss of a text under a model, nats per token; None where nothing was written.

    Args:
        model: Whoever reads.
        prompts: What was continued.
        written: The continuations.
    """

    def predict(ids: Tensor) -> Tensor:
        return model(input_ids=ids, use_cache=False).logits

    return surprise(predict, prompts, written, input_device(model))


def _written_without(
    model: "PreTrainedModel", stack: Stack, coalition: Sequence[bool], prompts: Prompts
) -> Continuations:
    """What the kept players write; their weights are those of the full model."""
    if stack.players == "layer":
        try:
            # A model of the kept layers whose tensors are the full model's: its cache counts right.
            return continued(cut_model(model, np.flatnonzero(coalition).tolist()), prompts)
        except CutError as error:
            log.info("written without a cache: %s", error)

    def predict(ids: Tensor) -> Tensor:
        return model(input_ids=ids, use_cache=False).logits

    ends, device = ends_of(model), input_device(model)
    with routed(model, stack, coalition):
        return write_plainly(predict, prompts, ends, device=device, seconds=SECONDS)


def generation_part(found: Continued, tokenizer: "PreTrainedTokenizerBase") -> GenerationPart:
    """The measures of both, and a few continuations to read."""
    prompts = found.prompts
    limit = min(COMPARED, found.full.tokens, found.smaller.tokens)
    pairs = list(zip(found.full.texts, found.smaller.texts, strict=True))
    full, smaller = (
        _writer(written, read)
        for written, read in zip((found.full, found.smaller), found.read, strict=True)
    )
    samples = [
        SamplePart(*(str(tokenizer.decode(ids)) for ids in (prompt, *pair)))
        for prompt, pair in list(zip(prompts.texts, pairs, strict=True))[:SAMPLES]
    ]
    return GenerationPart(
        prompts=len(pairs),
        prompt_tokens=prompts.ids.shape[1],
        new_tokens=min(found.full.tokens, found.smaller.tokens),
        chat=prompts.chat,
        full=full,
        smaller=smaller,
        compared=limit,
        agreement=float(np.mean([_agreement(*pair, limit) for pair in pairs])),
        in_common=float(np.mean([in_common(*pair) for pair in pairs])),
        broken=_broken(full, smaller),
        samples=samples,
    )


def _writer(written: Continuations, read: float | None) -> WriterPart:
    shares = [share for text in written.texts if (share := repeated_share(text)) is not None]
    loops = [place for text in written.texts if (place := first_loop(text)) is not None]
    return WriterPart(
        tokens=float(np.mean([len(text) for text in written.texts])),
        repeated=float(np.mean(shares)) if shares else None,
        loops=len(loops) / len(written.texts),
        to_loop=float(np.mean(loops)) if loops else None,
        perplexity=None if read is None else finite(exp(min(read, 700.0))),
    )


def _agreement(one: np.ndarray, other: np.ndarray, limit: int) -> float:
    """Share of the first places with the same token; both may have ended, which agrees too."""
    rows = np.full((2, limit), -1)
    for row, text in zip(rows, (one, other), strict=True):
        row[: len(text[:limit])] = text[:limit]
    return float(np.mean(rows[0] == rows[1]))


def _broken(full: WriterPart, smaller: WriterPart) -> str | None:
    """A plain sentence where what is written has broken; None where it has not."""
    if smaller.loops > full.loops + LOOPS:
        return (
            f"what it writes goes round in circles: {smaller.loops:.0%} of its continuations loop"
            f" (the full model's: {full.loops:.0%})"
        )
    if (smaller.repeated or 0.0) > (full.repeated or 0.0) + REPEATED:
        return (
            f"what it writes repeats itself: {smaller.repeated:.0%} of its 4-grams stood before"
            f" (the full model's: {full.repeated or 0.0:.0%})"
        )
    if smaller.tokens < SHORT * full.tokens:
        return (
            f"what it writes ends at once: after {smaller.tokens:.1f} tokens (the full model's:"
            f" after {full.tokens:.1f})"
        )
    return None
