"""Running text in consecutive windows, as perplexities are published.

The documents of a text follow each other with an empty line between; the whole is cut into windows
of equal length that do not overlap. Every window is predicted by itself, from its own first token
(BOS, where the policy puts one there). Of more windows than asked for, evenly spaced ones are read.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from coterie.errors import TextError
from coterie.texts.packing import SequenceFormat, encode
from coterie.texts.recipe import HELD_OUT_ON_HUB
from coterie.texts.sets import TextSet, describe
from coterie.texts.specs import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PRESETS = {
    "wikitext-2": HELD_OUT_ON_HUB,
    "c4": "allenai/c4:en:validation:text",
    "ptb": "ptb-text-only/ptb_text_only:penn_treebank:test:sentence",
}
"""Texts that perplexities are usually published on, as specs of `texts`."""


def running_windows(
    documents: Sequence[Document], form: SequenceFormat, *, at_most: int
) -> TextSet:
    """Cut running text into windows; each belongs to the document that it starts in.

    Args:
        documents: In their order.
        form: Tokenizer, length and beginning of every window.
        at_most: Windows that are read; evenly spaced ones where there are more.

    Raises:
        TextError: a length out of range, or too little text for one window.
    """
    prefix = form.prefix()
    body = form.length - len(prefix)
    if at_most < 1:
        raise TextError(f"{at_most} sequences leave nothing to read: ask for at least one")
    ids, owners = _joined(documents, form.tokenizer)
    count = len(ids) // body
    sources = tuple(dict.fromkeys(document.source for document in documents))
    if not count:
        raise TextError(
            f"text '{describe(sources)}' has {len(ids)} tokens, and one sequence needs {body}: "
            "give more text or a smaller length"
        )
    # Evenly spaced from the first window to the last, so that all of the text is covered.
    chosen = np.unique(np.linspace(0, count - 1, min(count, at_most)).round().astype(np.intp))
    rows = ids[: count * body].reshape(count, body)[chosen]
    before = np.tile(np.array(prefix, dtype=np.int64), (len(rows), 1))
    names, places = np.unique(owners[chosen * body], return_inverse=True)
    return TextSet(
        np.concatenate([before, rows], axis=1),
        places.astype(np.intp),
        tuple(documents[name].name for name in names),
        describe(sources),
        bos=bool(prefix),
        sources=sources,
    )


def _joined(
    documents: Sequence[Document], tokenizer: "PreTrainedTokenizerBase"
) -> tuple[np.ndarray, np.ndarray]:
    """All tokens in one row, and the document of each, both ``(n_tokens,)``."""
    ids: list[int] = []
    owners: list[int] = []
    between = encode(tokenizer, "\n\n")
    for place, document in enumerate(documents):
        # Tokens between two documents belong to the later one.
        tokens = [*(between if ids else []), *encode(tokenizer, document.text)]
        ids += tokens
        owners += [place] * len(tokens)
    return np.array(ids, dtype=np.int64), np.array(owners, dtype=np.intp)
