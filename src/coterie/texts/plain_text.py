"""A plain text as documents: by its own marks, or by length where it has none.

Documents stand between `<|endoftext|>` marks or WikiText article titles; in a text alone, between
form feeds, or where there are none about 2,000 words of it, cut between paragraphs, fewer if it
holds less than eight times that: so that whole documents can be set aside. A text written without
spaces between words, as Chinese is, is measured in characters.
"""

import re
from collections.abc import Callable, Iterator

WORDS_PER_DOCUMENT = 2_000
CHARACTERS_PER_DOCUMENT = 4_000
"""About as many tokens of Chinese as 2,000 words of English."""

_LONGEST_WORD = 16
"""Characters of a word, on average, above which a text is not written in words."""

_MARK = "<|endoftext|>"
_ARTICLE = re.compile(r"^(?= = [^=\n]+ = *$)", re.MULTILINE)  # WikiText: " = Title = "
_BLOCKS = re.compile(r".+?(?:\n[ \t\r]*\n\s*|\Z)", re.DOTALL)
_SPACE = re.compile(r"\s")
_ENDS = "。！？．｡!?"
"""What ends a sentence where no space follows it."""


def split_text(text: str, *, alone: bool) -> list[str]:
    """The documents of a plain text. Nothing but separators is lost.

    >>> split_text("one<|endoftext|>two", alone=True)
    ['one', 'two']
    """
    # The first way that finds more than one document is taken.
    ways = [text.split(_MARK), _ARTICLE.split(text)]
    if alone:  # in a library, form feeds separate the pages of a book
        ways.append(text.split("\f"))
    for parts in ways:
        documents = [part for part in parts if part.strip()]
        if len(documents) > 1:
            return documents
    return _cut_by_length(text) if alone else [text]


def _cut_by_length(text: str) -> list[str]:
    # Without spaces a whole book is one word, or as many as it has lines.
    n_words = len(text.split())
    spaced = len(text) <= _LONGEST_WORD * n_words
    size: Callable[[str], int] = _words if spaced else len
    whole, most = size(text), WORDS_PER_DOCUMENT if spaced else CHARACTERS_PER_DOCUMENT
    # At least about eight documents, so that half of them can be set aside.
    target = max(1, min(most, whole // 8))
    documents: list[str] = []
    current: list[str] = []
    held = 0
    for piece in _pieces(text, target, size):
        current.append(piece)
        held += size(piece)
        if held >= target:
            documents.append("".join(current))
            current, held = [], 0
    rest = "".join(current)
    # A short rest joins the last document: a tiny one would hardly fill a sequence.
    if documents and held < target / 2:
        documents[-1] += rest
    else:
        documents.append(rest)
    return documents


def _pieces(text: str, target: int, size: Callable[[str], int]) -> Iterator[str]:
    """Paragraphs; the lines of a paragraph too long for a document; the words of such a line."""
    for block in _BLOCKS.findall(text):
        if size(block) <= target:
            yield block
            continue
        for line in block.splitlines(keepends=True):
            if size(line) <= target:
                yield line
            elif size is _words:
                yield from re.findall(r"\s*\S+\s*", line)
            else:  # its sentences, or parts of one that is too long
                yield from re.findall(rf"[^{_ENDS}]{{1,{target}}}[{_ENDS}]*|[{_ENDS}]+", line)


def _words(text: str) -> int:
    return len(text.split())


def stretches(text: str, characters: int) -> list[str]:
    """A long text in parts of about this many characters, cut before white space if it has any."""
    found = []
    start = 0
    # Twice the length, so that cutting one part off still leaves a part to cut.
    while len(text) - start > 2 * characters:
        space = _SPACE.search(text, start + characters, start + 2 * characters)
        end = space.start() if space else start + characters
        found.append(text[start:end])
        start = end
    return [*found, text[start:]]
