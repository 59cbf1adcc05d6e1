"""Windows of tokens out of documents, one from each in turn, without padding.

- documents are shuffled and each is cut into non-overlapping windows, from a random offset and in
  random order (a long one, say a book, stretch by stretch, only as far as it is needed);
- the sequences take one window from each document in turn, so that as many documents as possible
  occur and any first few sequences already cover many of them;
- documents shorter than a window are joined, with the end-of-text token between them, until they
  fill one; each such window is a document of its own, and what reaches beyond it is left out;
- a mixture gives each source its share of the sequences, spread evenly over their order.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.errors import TextError
from coterie.foreign import foreign
from coterie.texts.plain_text import stretches
from coterie.texts.specs import Document, TextSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BosPolicy = Literal["auto", "always", "never"]
"""What stands before every sequence: the tokenizer's own choice, always BOS, or nothing."""

BOS_POLICIES: tuple[BosPolicy, ...] = ("auto", "always", "never")

STRETCH = 64
"""Characters per token of a window that are tokenised at once: about sixteen windows of English."""


@dataclass(frozen=True)
class SequenceFormat:
    """What every sequence of a set looks like.

    Attributes:
        tokenizer: Turns text into token ids.
        length: Tokens of a sequence, BOS counted.
        bos: What stands before the text of each.
        context: The most tokens the model reads at once, where known.
    """

    tokenizer: "PreTrainedTokenizerBase"
    length: int
    bos: BosPolicy = "auto"
    context: int | None = None

    def check(self) -> None:
        """Refuse a length that predicts nothing, or that the model cannot read.

        Raises:
            TextError: below 2 tokens, or above the model's context.
        """
        check_length(self.length, self.context)

    def prefix(self) -> list[int]:
        """The tokens before every sequence; at least one token of text follows them.

        Raises:
            TextError: length out of range, or no BOS where one is asked.
        """
        self.check()
        prefix = bos_prefix(self.tokenizer, self.bos)
        if len(prefix) >= self.length:
            raise TextError(
                f"length {self.length} is taken up by {len(prefix)} tokens before the text: give a"
                " larger length"
            )
        return prefix


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


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive tokens of one document, or of short documents joined."""

    source: TextSource
    document: str
    tokens: NDArray[np.int64]
    keys: frozenset[str]
    """Of the content of these documents."""


class Packer:
    """The windows of one source's documents, one document after the other in turn."""

    def __init__(
        self,
        source: TextSource,
        documents: Sequence[Document],
        tokenizer: "PreTrainedTokenizerBase",
        body: int,
        rng: np.random.Generator,
    ) -> None:
        self.source = source
        self.n_documents = len(documents)
        self.n_tokens = 0  # of the documents read so far
        self.n_windows = 0
        self.body = body
        self._documents = documents
        self._tokenizer = tokenizer
        self._rng = rng

    def __iter__(self) -> Iterator[Window]:
        joint = joint_of(self._tokenizer)
        later: list[Iterator[Window]] = []
        short: list[int] = []
        joined: list[Document] = []
        for place in self._rng.permutation(self.n_documents):
            document = self._documents[place]
            # First round: one window of each document, so that as many as possible occur.
            windows = self._windows(document)
            first = next(windows, None)
            if first is not None:
                yield self._count(first)
                later.append(windows)
                continue
            short += ([*joint] if short else []) + encode(self._tokenizer, document.text)
            joined.append(document)
            if len(short) >= self.body:
                yield self._count(
                    self._window(joined, np.array(short[: self.body], dtype=np.int64))
                )
                short, joined = [], []
        # Later rounds: one more window of each long document, until all are used up.
        for turn in itertools.zip_longest(*later):
            yield from (self._count(window) for window in turn if window is not None)

    def _windows(self, document: Document) -> Iterator[Window]:
        """The windows of one document, tokenised stretch by stretch, only as far as asked."""
        parts = stretches(document.text, STRETCH * self.body)
        for place in self._rng.permutation(len(parts)):
            ids = encode(self._tokenizer, parts[place])
            self.n_tokens += len(ids)
            count, spare = divmod(len(ids), self.body)
            offset = int(self._rng.integers(spare + 1))
            rows = np.array(ids[offset : offset + count * self.body], dtype=np.int64)
            for row in self._rng.permutation(rows.reshape(count, self.body)):
                yield self._window([document], row)

    def _window(self, documents: Sequence[Document], row: NDArray[np.int64]) -> Window:
        name = documents[0].name
        if len(documents) > 1:
            name = f"{name} and {len(documents) - 1} more"
        return Window(self.source, name, row, frozenset(one.key for one in documents))

    def _count(self, window: Window) -> Window:
        self.n_windows += 1
        return window


def deal(
    streams: dict[TextSource, Packer], sequences: int | None, at_most: int | None = None
) -> list[Window]:
    """Take windows from the sources so that every first few hold the shares as well as they can.

    Args:
        streams: The windows of each source.
        sequences: Exactly how many; None stops where a source has no more.
        at_most: Where to stop at the latest when ``sequences`` is None.
    """
    if sequences is not None and sequences < max(1, len(streams)):
        raise TextError(
            f"{sequences} sequences are fewer than one from each of {len(streams)} texts: "
            f"ask for at least {max(1, len(streams))}"
        )
    hands = {source: iter(packer) for source, packer in streams.items()}
    taken = dict.fromkeys(streams, 0)
    chosen: list[Window] = []
    last = at_most if sequences is None else sequences
    while streams and (last is None or len(chosen) < last):
        # The source that is furthest behind its share gives the next window.
        due = {s: s.share * (len(chosen) + 1) - taken[s] for s in streams}
        source = max(due, key=lambda s: due[s])
        window = next(hands[source], None)
        if window is None:
            if sequences is None and chosen:
                break
            raise TextError(_too_little(source, streams[source], sequences))
        taken[source] += 1
        chosen.append(window)
    missing = [source.name for source, count in taken.items() if not count]
    if missing or not chosen:
        what = f"'{missing[0]}' has too small a share" if missing else "there are no documents"
        raise TextError(f"{what} to give one of {len(chosen)} sequences: ask for more sequences")
    return chosen


def _too_little(source: TextSource, packer: Packer, sequences: int | None) -> str:
    there = f"text '{source.name}' has {packer.n_tokens} tokens in {packer.n_documents} documents"
    if packer.n_windows == 0:
        return f"{there}, and one sequence needs {packer.body}: give more text or a smaller length"
    return (
        f"{there}, enough for {packer.n_windows} sequences of {packer.body} where its part of "
        f"{sequences} is asked: give more text, fewer sequences or a smaller length"
    )


def bos_prefix(tokenizer: "PreTrainedTokenizerBase", bos: BosPolicy) -> list[int]:
    """The tokens before every sequence."""
    if bos == "never":
        return []
    # What the tokenizer puts before a text is seen by comparing it with the bare text.
    plain = encode(tokenizer, "a")
    whole = [int(token) for token in tokenizer("a")["input_ids"]]  # type: ignore[union-attr]
    start = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
    if bos == "auto" or start:
        return whole[:start]
    if tokenizer.bos_token_id is None:
        raise TextError(
            "BOS 'always' needs a tokenizer with a BOS token; this one has none: 'never'"
        )
    return [int(tokenizer.bos_token_id)]  # type: ignore[arg-type]


def joint_of(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The tokens between two short documents that are joined: end of text, else an empty line."""
    eos = tokenizer.eos_token_id
    return encode(tokenizer, "\n\n") if eos is None else [int(eos)]  # type: ignore[arg-type]


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a text, with nothing put before or after it."""
    refused = f"the model's tokenizer refuses the text that begins {text[:40]!r}"
    with foreign(refused, way_out="take that document out, or correct it", kind=TextError):
        # `verbose=False` silences the warning that a document is longer than the model's context.
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[return-value]
