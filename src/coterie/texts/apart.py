"""Documents that have nothing in common with the sequences that judge.

A document is left out by its content where the sequences say what they were drawn from, and by its
tokens beside that: a file may hold in one piece what another holds in several.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from coterie.texts.packing import encode, joint_of
from coterie.texts.sets import TextSet
from coterie.texts.specs import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TELLING = 16
"""Tokens in a row that tell a text by themselves; a shorter piece must be a whole document."""


def apart(
    documents: Sequence[Document], judges: TextSet, tokenizer: "PreTrainedTokenizerBase"
) -> list[Document]:
    """The documents that are not on the side that judges, and in which nothing that judges occurs.

    Args:
        documents: Candidates to learn from.
        judges: The sequences that judge, ``(n_sequences, length)``.
        tokenizer: Turns text into token ids.
    """
    pieces = {_bytes(piece): len(piece) for piece in _pieces(judges, joint_of(tokenizer))}
    telling = min(TELLING, judges.length - judges.prefix)
    long = [piece for piece, length in pieces.items() if length >= telling]
    clean = []
    for document in documents:
        if document.key in judges.side:
            continue
        whole = _bytes(encode(tokenizer, document.text))
        if whole not in pieces and not any(piece in whole for piece in long):
            clean.append(document)
    return clean


def _pieces(texts: TextSet, joint: list[int]) -> Iterator[list[int]]:
    """The text of every sequence, taken apart where short documents were joined."""
    for row in texts.tokens.tolist():
        start = at = texts.prefix
        while at < len(row):
            if row[at : at + len(joint)] != joint:
                at += 1
                continue
            yield row[start:at]
            start = at = at + len(joint)
        yield row[start:]


def _bytes(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype="<i4").tobytes()
