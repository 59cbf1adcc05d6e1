"""From documents to sequences: the texts a value is measured on, and the texts that judge it.

`packing` says how documents become sequences of equal length. BOS ``auto`` puts before every
sequence what the tokenizer puts before a text by itself. Whole documents judge or calibrate, never
both.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coterie.errors import TextError
from coterie.texts.packing import Packer, SequenceFormat, deal
from coterie.texts.plain_text import split_text
from coterie.texts.specs import Document, TextSource

log = logging.getLogger("coterie.texts")

Tokens = NDArray[np.int64]
"""Token ids ``(n_sequences, length)``."""


@dataclass(frozen=True, eq=False)
class TextSet:
    """Sequences of equal length, and the documents they come from."""

    tokens: Tokens
    documents: NDArray[np.intp]
    """``(n_sequences,)``: the document of each sequence; errors over texts cluster by it."""
    document_names: tuple[str, ...]
    description: str
    """One line that says what the text is, without any path."""
    bos: bool
    """Whether every sequence starts with what the tokenizer puts before a text."""
    sources: tuple[TextSource, ...] = ()
    keys: tuple[frozenset[str], ...] = ()
    """Of each document: `Document.key` of what it holds, several where short ones are joined."""
    side: frozenset[str] = frozenset()
    """Keys of all documents that the sequences were drawn from, whether any of them was drawn."""
    prefix: int = 0
    """How many tokens stand before the text of every sequence."""

    @property
    def n_sequences(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens in every sequence, BOS counted; one fewer is predicted."""
        return self.tokens.shape[1]

    def some(self, rows: NDArray[np.intp]) -> "TextSet":
        """These sequences of it, with the documents they come from."""
        names, own = np.unique(self.documents[rows], return_inverse=True)
        return replace(
            self,
            tokens=self.tokens[rows],
            documents=own.reshape(-1),
            document_names=tuple(self.document_names[name] for name in names),
            keys=tuple(self.keys[name] for name in names) if self.keys else (),
        )

    @cached_property
    def content(self) -> frozenset[str]:
        """`Document.key` of every document that occurs in a sequence."""
        return frozenset[str]().union(*self.keys)

    def new_of(self, others: "TextSet") -> NDArray[np.intp]:
        """The rows of other sequences that are none of these."""
        known = {row.tobytes() for row in self.tokens}
        return np.flatnonzero([row.tobytes() not in known for row in others.tokens])

    def holding(self, keys: frozenset[str]) -> NDArray[np.bool_]:
        """Which sequences come from a document with one of these keys, ``(n_sequences,)``."""
        held = np.array([bool(own & keys) for own in self.keys], dtype=bool)
        return held[self.documents] if self.keys else np.zeros(self.n_sequences, dtype=bool)

    @cached_property
    def sha256(self) -> str:
        """Hash of the token ids and their shape: equal exactly when the sequences are."""
        ids = np.ascontiguousarray(self.tokens, dtype="<i8").tobytes()
        return hashlib.sha256(f"{self.tokens.shape}".encode() + ids).hexdigest()


def split_documents(
    documents: Sequence[Document], *, seed: int, held_out_share: float = 0.5
) -> tuple[list[Document], list[Document]]:
    """Set whole documents aside: ``(calibration, held_out)``, disjoint by content, each in order.

    Documents are ranked by a hash of seed and content, source by source, and the first ranks, up to
    the share of the source's characters, are held out: the answer depends on what the documents
    say, not on their order or names, and duplicates stay on one side.

    Args:
        documents: Of one source or several.
        seed: Another one holds other documents out.
        held_out_share: Share of each source's characters that is held out, about.

    Raises:
        TextError: a source has fewer than two different documents.
    """
    documents = cut_where_alone(documents)
    held_out: set[str] = set()
    for source in dict.fromkeys(document.source for document in documents):
        # By content, so that a document that is there twice counts as one and stays on one side.
        characters: dict[str, int] = {}
        for document in documents:
            if document.source == source:
                key = document.key
                characters[key] = characters.get(key, 0) + len(document.text)
        held_out |= _first_ranks(characters, source, seed, held_out_share)
    sides: tuple[list[Document], list[Document]] = ([], [])
    for document in documents:
        sides[document.key in held_out].append(document)
    return sides


def cut_where_alone(documents: Sequence[Document]) -> list[Document]:
    """A source of a single document is cut as a text file alone is: a table may hold one book."""
    counts = Counter(document.source for document in documents)
    found: list[Document] = []
    for document in documents:
        parts = [document.text]
        if counts[document.source] == 1:
            parts = split_text(document.text, alone=True)
        if len(parts) == 1:
            found.append(document)
            continue
        found += [
            replace(document, name=f"{document.name}#{place}", text=part)
            for place, part in enumerate(parts)
        ]
    return found


def without(
    documents: Sequence[Document], others: Sequence[Document]
) -> tuple[list[Document], int]:
    """The documents whose content is not among the others, and how many were left out."""
    seen = {document.key for document in others}
    rest = [document for document in documents if document.key not in seen]
    return rest, len(documents) - len(rest)


def pack(
    documents: Sequence[Document],
    form: SequenceFormat,
    *,
    rng: np.random.Generator,
    sequences: int | None = None,
    at_most: int | None = None,
) -> TextSet:
    """Cut documents into sequences of equal length, by the policy of `packing`.

    Args:
        documents: What to cut; mixtures keep the shares of their sources.
        form: Tokenizer, length and beginning of every sequence.
        rng: Shuffles documents and windows.
        sequences: How many; None takes all there are.
        at_most: Where to stop at the latest when ``sequences`` is None.

    Raises:
        TextError: length out of range, no BOS where one is asked, or too little text.
    """
    prefix = form.prefix()
    # One stream of windows for each source; `deal` mixes them by their shares.
    grouped: dict[TextSource, list[Document]] = {}
    for document in documents:
        grouped.setdefault(document.source, []).append(document)
    body = form.length - len(prefix)
    # BOS is put back below: windows hold text alone.
    streams = {
        source: Packer(source, its, form.tokenizer, body, rng) for source, its in grouped.items()
    }
    chosen = deal(streams, sequences, at_most)
    # Documents are numbered in the order in which they first occur.
    places: dict[tuple[TextSource, str], int] = {}
    own = [places.setdefault((w.source, w.document), len(places)) for w in chosen]
    keys = [frozenset[str]() for _ in places]
    for place, window in zip(own, chosen, strict=True):
        keys[place] |= window.keys
    counts = len(chosen), form.length, len(places), len(documents)
    log.info("%d sequences of %d tokens from %d of %d documents", *counts)
    return TextSet(
        np.array([[*prefix, *window.tokens] for window in chosen], dtype=np.int64),
        np.array(own, dtype=np.intp),
        tuple(name for _, name in places),
        describe(tuple(grouped)),
        bos=bool(prefix),
        sources=tuple(grouped),
        keys=tuple(keys),
        side=frozenset(document.key for document in documents),
        prefix=len(prefix),
    )


def joined(first: TextSet, then: TextSet) -> TextSet:
    """Sequences of the same sources, one set after the other; equal names are one document."""
    names = tuple(dict.fromkeys([*first.document_names, *then.document_names]))
    own = [
        names.index(texts.document_names[document])
        for texts in (first, then)
        for document in texts.documents
    ]
    keys = dict.fromkeys(names, frozenset[str]())
    for texts in (first, then):
        for name, held in zip(texts.document_names, texts.keys, strict=False):
            keys[name] |= held
    return replace(
        first,
        tokens=np.concatenate([first.tokens, then.tokens]),
        documents=np.array(own, dtype=np.intp),
        document_names=names,
        keys=tuple(keys.values()),
        side=first.side | then.side,
    )


def describe(sources: Sequence[TextSource]) -> str:
    """One line that names the sources, with their shares where there are several."""
    if len(sources) == 1:
        return str(sources[0])
    return " + ".join(f"{source.share:.0%} {source}" for source in sources)


def _first_ranks(
    characters: dict[str, int], source: TextSource, seed: int, share: float
) -> set[str]:
    if len(characters) < 2:
        raise TextError(
            f"text '{source.name}' is a single document, so none can be set aside to judge by: "
            "name a held-out text"
        )
    ranked = sorted(characters, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    enough = share * sum(characters.values())
    held_out = {ranked[0]}
    total = characters[ranked[0]]
    for key in ranked[1:-1]:  # the last one calibrates whatever happens
        # A document that would overshoot by more than it falls short stays out.
        if total + characters[key] / 2 > enough:
            break
        held_out.add(key)
        total += characters[key]
    return held_out
