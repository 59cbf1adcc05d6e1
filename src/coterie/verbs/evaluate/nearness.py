"""A checkpoint held against the model it came from, on held-out text; they take turns in memory."""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coterie.plain import finite
from coterie.report.schema.generation import BesidePart, GenerationPart
from coterie.scores.generation import CannotWrite, Continuations, Prompts, continued, prompts_of
from coterie.scores.predictions import KeptPredictions, held_against, keep
from coterie.texts.sets import TextSet
from coterie.verbs.evaluate.generation import Continued, generation_part, read_by

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Opener = Callable[[], "PreTrainedModel"]
"""Loads a model, in evaluation mode."""


@dataclass(frozen=True, eq=False)
class Noted:
    """What is kept of the first model when it leaves memory."""

    kept: KeptPredictions
    prompts: Prompts | None
    written: Continuations | None


@dataclass(frozen=True, eq=False)
class Compared:
    """What the second model predicted and wrote, held against the first."""

    kl: float
    top1: float
    written: Continuations | None


def noted(model: "PreTrainedModel", texts: TextSet, tokenizer: "PreTrainedTokenizerBase") -> Noted:
    """What a model predicts on held-out text, and how it goes on.

    Args:
        model: In evaluation mode.
        texts: Held-out sequences.
        tokenizer: Its own.
    """
    prompts = prompts_of(texts, tokenizer)
    return Noted(keep(model, texts.tokens), prompts, _written(model, prompts))


def held_beside(first: Noted, model: "PreTrainedModel") -> Compared:
    """The second model, held against what is kept of the first."""
    return Compared(*held_against(first.kept, model), _written(model, first.prompts))


def generation_of(
    first: Noted,
    second: Compared,
    reader: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
) -> GenerationPart | None:
    """What both wrote, the first model reading what the second did; None where either could not.

    Args:
        first: What is kept of the first model.
        second: What the second did.
        reader: The first model, loaded again.
        tokenizer: Turns ids into text.
    """
    prompts, one, two = first.prompts, first.written, second.written
    if prompts is None or one is None or two is None:
        return None
    read = (read_by(reader, prompts, one), read_by(reader, prompts, two))
    return generation_part(Continued(prompts, one, two, read), tokenizer)


def nearness(
    which: str,
    first: Opener,
    second: Opener,
    texts: TextSet,
    tokenizer: "PreTrainedTokenizerBase",
) -> BesidePart:
    """Hold the second model against the first; one of them is in memory at a time.

    Args:
        which: What the first is called in the record: ``full`` or ``before``.
        first: Loads the model that is held against.
        second: Loads the one that is judged.
        texts: Held-out sequences.
        tokenizer: Of both.
    """
    one = noted(first(), texts, tokenizer)
    gc.collect()
    two = held_beside(one, second())
    gc.collect()
    generation = generation_of(one, two, first(), tokenizer) if two.written else None
    gc.collect()
    return BesidePart(
        model=which,
        kl=finite(two.kl),
        top1=finite(two.top1),
        sequences=len(one.kept.tokens),
        generation=generation,
    )


def _written(model: "PreTrainedModel", prompts: Prompts | None) -> Continuations | None:
    if prompts is None:
        return None
    try:
        return continued(model, prompts)
    except CannotWrite as error:
        log.warning("this model cannot continue a text: %s", error)
        return None
