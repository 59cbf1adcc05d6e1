"""From documents to sequences: the texts a value is measured on, and the texts that judge it.

`packing` says how documents become sequences of equal length. BOS ``auto`` puts before every
sequence what the tokenizer puts before a text by itself. Whole documents judge or calibrate, never
both.
"""

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coterie.errors import TextError
from coterie.texts.packing import BosPolicy, Packer, bos_prefix, deal
from coterie.texts.specs import Document, Source, read_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALIBRATION_ON_HUB = "allenai/c4:en"
"""What calibrates a model of the Hub when nothing else is asked for: C4, arXiv:1910.10683."""

HELD_OUT_ON_HUB = "Salesforce/wikitext:wikitext-2-raw-v1:test:text"
"""What judges a model calibrated on the default: WikiText-2, arXiv:1609.07843."""

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
    sources: tuple[Source, ...] = ()

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
        )

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

    Raises:
        TextError: a source has fewer than two different documents.
    """
    held_out: set[str] = set()
    for source in dict.fromkeys(document.source for document in documents):
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


def without(
    documents: Sequence[Document], others: Sequence[Document]
) -> tuple[list[Document], int]:
    """The documents whose content is not among the others, and how many were left out."""
    seen = {document.key for document in others}
    rest = [document for document in documents if document.key not in seen]
    return rest, len(documents) - len(rest)


def check_length(length: int, context: int | None) -> None:
    """Refuse a sequence length that predicts nothing, or that the model cannot read.

    Raises:
        TextError: below 2 tokens, or above the model's context.
    """
    if length < 2:
        raise TextError(f"length {length} predicts no token: give at least 2")
    if context is not None and length > context:
        raise TextError(
            f"length {length} is above the model's context of {context} tokens: "
            f"give at most {context}"
        )


def pack(
    documents: Sequence[Document],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    length: int,
    rng: np.random.Generator,
    sequences: int | None = None,
    at_most: int | None = None,
    bos: BosPolicy = "auto",
    context: int | None = None,
) -> TextSet:
    """Cut documents into sequences of equal length, by the policy of `packing`.

    Args:
        documents: What to cut; mixtures keep the shares of their sources.
        tokenizer: Turns text into token ids.
        length: Tokens in a sequence, BOS counted.
        rng: Shuffles documents and windows.
        sequences: How many; None takes all there are.
        at_most: Where to stop at the latest when ``sequences`` is None.
        bos: What stands before every sequence.
        context: The most tokens the model reads at once, where known.

    Raises:
        TextError: length out of range, no BOS where one is asked, or too little text.
    """
    check_length(length, context)
    prefix = bos_prefix(tokenizer, bos)
    body = length - len(prefix)
    if body < 1:
        raise TextError(f"length {length} leaves no room after {len(prefix)} tokens before it")
    grouped: dict[Source, list[Document]] = {}
    for document in documents:
        grouped.setdefault(document.source, []).append(document)
    streams = {source: Packer(source, its, tokenizer, body, rng) for source, its in grouped.items()}
    chosen = deal(streams, sequences, at_most)
    places: dict[tuple[Source, str], int] = {}
    own = [places.setdefault((w.source, w.document), len(places)) for w in chosen]
    return TextSet(
        np.array([[*prefix, *window.tokens] for window in chosen], dtype=np.int64),
        np.array(own, dtype=np.intp),
        tuple(name for _, name in places),
        describe(tuple(grouped)),
        bos=bool(prefix),
        sources=tuple(grouped),
    )


def describe(sources: Sequence[Source]) -> str:
    """One line that names the sources, with their shares where there are several."""
    if len(sources) == 1:
        return str(sources[0])
    return " + ".join(f"{source.share:.0%} {source}" for source in sources)


def _first_ranks(characters: dict[str, int], source: Source, seed: int, share: float) -> set[str]:
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
        if total + characters[key] / 2 > enough:
            break
        held_out.add(key)
        total += characters[key]
    return held_out


def choose_texts(
    tokenizer: "PreTrainedTokenizerBase",
    *,
    calibration: str,
    held_out: str | None,
    sequences: int,
    held_out_sequences: int | None,
    length: int,
    rng: np.random.Generator,
    bos: BosPolicy = "auto",
    context: int | None = None,
) -> tuple[TextSet, TextSet]:
    """The texts that calibrate and the texts that judge, ``(calibration, held_out)``, never shared.

    Without a held-out text the two defaults judge by theirs (``stdlib`` by its other half, C4 by
    WikiText-2), and any other text sets half of its documents aside. Documents of a named held-out
    text that also stand in the calibration text are left out of it, and counted in its description.

    Args:
        tokenizer: Turns text into token ids.
        calibration: Spec of the text that calibrates, see `texts`.
        held_out: Spec of the text that judges; None for the rule above.
        sequences: Sequences that calibrate.
        held_out_sequences: Most sequences that judge; None takes all there are.
        length: Tokens in each, BOS counted.
        rng: Samples documents, splits them, shuffles windows.
        bos: What stands before every sequence.
        context: The most tokens the model reads at once, where known.

    Raises:
        TextError: a text that cannot be read, or is too short.
    """
    check_length(length, context)
    reading, cutting = rng.spawn(2)
    choosing, judging, left_out = _read_both(
        tokenizer, calibration, held_out, (sequences, held_out_sequences), length, reading
    )
    chosen, judges = (
        pack(
            documents,
            tokenizer,
            length=length,
            rng=cutting,
            sequences=wanted,
            at_most=held_out_sequences,
            bos=bos,
            context=context,
        )
        for documents, wanted in ((choosing, sequences), (judging, None))
    )
    if left_out:
        what = (
            "1 document that also calibrates"
            if left_out == 1
            else (f"{left_out} documents that also calibrate")
        )
        judges = replace(judges, description=f"{judges.description}, less {what}")
    return chosen, judges


def more_texts(
    texts: TextSet,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    calibration: str,
    held_out: str | None,
    sequences: int,
    held_out_sequences: int | None,
    wanted: int,
    rng: np.random.Generator,
    bos: BosPolicy = "auto",
    context: int | None = None,
) -> TextSet:
    """The sequences that calibrate and further ones of the same text, by the same rule and seed.

    Documents that judge are read again and left out, so that what was kept apart stays apart.

    Args:
        texts: What `choose_texts` chose to calibrate, by the other arguments.
        sequences: Sequences that it was asked for.
        wanted: Sequences in all; fewer come back where the text has no more.
        rng: As `choose_texts` was given it, unused.

    Raises:
        TextError: a text that cannot be read.
    """
    if wanted <= texts.n_sequences:
        return texts.some(np.arange(wanted))
    reading, cutting = rng.spawn(2)
    again = deepcopy(reading)
    length = texts.length
    _, judging, _ = _read_both(
        tokenizer, calibration, held_out, (sequences, held_out_sequences), length, reading
    )
    both = None if held_out_sequences is None else 2 * max(wanted, held_out_sequences)
    wider = read_documents(calibration, tokenizer, rng=again, sequences=both, length=length)
    documents, _ = without(wider, judging)
    if not documents:
        return texts
    more = pack(
        documents, tokenizer, length=length, rng=cutting, at_most=wanted, bos=bos, context=context
    )
    known = {row.tobytes() for row in texts.tokens}
    new = np.array([row.tobytes() not in known for row in more.tokens])
    return _joined(texts, more.some(np.flatnonzero(new)[: wanted - texts.n_sequences]))


def _joined(first: TextSet, then: TextSet) -> TextSet:
    """Sequences of the same sources, one set after the other; equal names are one document."""
    names = tuple(dict.fromkeys([*first.document_names, *then.document_names]))
    own = [
        names.index(texts.document_names[document])
        for texts in (first, then)
        for document in texts.documents
    ]
    tokens = np.concatenate([first.tokens, then.tokens])
    documents = np.array(own, dtype=np.intp)
    return replace(first, tokens=tokens, documents=documents, document_names=names)


def _read_both(
    tokenizer: "PreTrainedTokenizerBase",
    calibration: str,
    held_out: str | None,
    wanted: tuple[int, int | None],
    length: int,
    rng: np.random.Generator,
) -> tuple[list[Document], list[Document], int]:
    """Documents that calibrate, documents that judge, and how many of these were left out."""
    judge = {"stdlib": "stdlib", CALIBRATION_ON_HUB: HELD_OUT_ON_HUB}.get(calibration)
    judge = judge if held_out is None else held_out
    sequences, held_out_sequences = wanted
    if judge is None or (judge == calibration and judge != "stdlib"):
        both = None if held_out_sequences is None else 2 * max(sequences, held_out_sequences)
        documents = read_documents(calibration, tokenizer, rng=rng, sequences=both, length=length)
        return *split_documents(documents, seed=int(rng.integers(2**31))), 0
    choosing = read_documents(calibration, tokenizer, rng=rng, sequences=sequences, length=length)
    judging = read_documents(
        judge, tokenizer, rng=rng, half="verdict", sequences=held_out_sequences, length=length
    )
    rest, left_out = without(judging, choosing)
    if not rest:
        raise TextError(
            f"every document of the held-out text '{judge}' also calibrates: name another text, "
            "or none and half of the calibration documents are set aside"
        )
    return choosing, rest, left_out
