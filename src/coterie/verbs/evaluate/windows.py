"""The texts that models are scored on: which are read, and in which windows."""

from typing import TYPE_CHECKING

import numpy as np

from coterie.models.files.sources import Source
from coterie.scores.perplexity import PRESETS, running_windows
from coterie.texts.packing import SequenceFormat, check_length
from coterie.texts.sets import TextSet
from coterie.texts.specs import read_documents
from coterie.verbs.evaluate.as_judged import default_text
from coterie.verbs.evaluate.request import EvaluateRequest
from coterie.verbs.shared.defaults import context_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def texts_asked(request: EvaluateRequest, sources: list[Source]) -> tuple[str, ...]:
    """The texts that are read, in windows that every model can read.

    Raises:
        TextError: some model reads fewer tokens at once than a window has.
    """
    contexts = [context_of(source) for source in sources]
    # The shortest context decides: every model must be able to read the windows of all.
    context = min((length for length in contexts if length is not None), default=None)
    # Tasks alone ask for no text, and what judged before is drawn by its own recipe.
    none_named = request.tasks or request.repeats_judging
    texts = request.texts or (() if none_named else (default_text(sources),))
    if texts:
        check_length(request.length, context)
    return texts


def held_out_windows(
    request: EvaluateRequest, tokenizer: "PreTrainedTokenizerBase", text: str
) -> TextSet:
    """The windows of one text, as this tokenizer cuts it.

    Args:
        request: How long a window is, and how many.
        tokenizer: The model's tokenizer.
        text: A preset or any text spec.
    """
    documents = read_documents(
        PRESETS.get(text.lower(), text),
        tokenizer,
        # 3 keeps this stream apart from those of other verbs at the same seed.
        rng=np.random.default_rng([request.seed, 3]),
        half="verdict",
        sequences=request.sequences,
        length=request.length,
    )
    form = SequenceFormat(tokenizer, request.length, request.bos_policy())
    return running_windows(documents, form, at_most=request.sequences)
