"""Where texts come from: a spec such as ``corpus.jsonl`` read into documents.

A spec is one of

- a path to a file or a folder (`files`), ``PATH:COLUMN`` to name the column of a table;
- a data set on the Hub, ``name[:config[:split[:column]]]`` (`hub`);
- ``stdlib``: library modules and help topics every CPython carries (`models.reference.text`);
- a mixture of these by shares of the sequences: ``a.txt=0.7,b.jsonl=0.3``.
"""

import hashlib
import heapq
import logging
import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.errors import TextError
from coterie.foreign import expanded, is_there
from coterie.models.reference.text import Half, stdlib_documents
from coterie.texts.files import files_sha256, find_files, read_files
from coterie.texts.formats import is_text_name
from coterie.texts.hub import HubText, find_revision, parse_hub, read_hub
from coterie.texts.rows import NamedText, RowReader

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("coterie.texts")

CHARACTERS_PER_TOKEN = 16
"""Characters read per token wanted: generous, so that a sample of documents is never too small."""


@dataclass(frozen=True)
class TextSource:
    """Where documents come from, as a report may print it: no path, no user."""

    name: str
    """File or folder name, data set, or ``stdlib``, with its version where it has one."""
    share: float = 1.0
    """Share of the sequences this source gives in a mixture; the shares sum to 1."""
    sha256: str | None = None
    """Hash of the file, or of all files of the folder, where there is one."""
    nulls: int = 0
    """Rows that were left out because they hold no text but null."""

    def __str__(self) -> str:
        told = f"{self.name} (sha256 {self.sha256[:12]})" if self.sha256 else self.name
        rows = "row that is" if self.nulls == 1 else "rows that are"
        return f"{told}, less {self.nulls} {rows} null" if self.nulls else told


@dataclass(frozen=True)
class Document:
    """A text that stays whole when texts are split into those to choose and those to judge by."""

    name: str
    text: str
    source: TextSource

    @cached_property
    def key(self) -> str:
        """A hash of the content, blind to case and white space: equal for duplicates."""
        return hashlib.sha256(" ".join(self.text.lower().split()).encode()).hexdigest()


def read_documents(
    spec: str,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    rng: "np.random.Generator",
    half: Half = "calibration",
    sequences: int | None = None,
    length: int = 1,
) -> list[Document]:
    """Read the documents a spec names, or a random sample of them where far fewer are needed.

    Args:
        spec: What to read, see the head of this module.
        tokenizer: Renders chat messages through its template.
        rng: Draws the sample.
        half: Which half of ``stdlib``: what calibrates never judges.
        sequences: Sequences that will be packed from the documents; None reads everything.
        length: Tokens in each.

    Raises:
        TextError: nothing there, or nothing that can be read as text.
    """
    documents = []
    for part, share in parse_mixture(spec):
        rows = RowReader(tokenizer)
        source, texts = _open_source(part, share, rows, half, rng)
        if sequences is not None:
            texts = _sample(texts, sequences, length, rng, in_random_order=_is_hub(part))
        found = [Document(name, text, source) for name, text in texts if text.strip()]
        if rows.nulls:  # known when all is read: told wherever the source is
            source = replace(source, nulls=rows.nulls)
            found = [replace(document, source=source) for document in found]
        if not found and rows.nulls:
            raise TextError(
                f"{rows.first_null}, and no other row of '{source.name}' holds one: name another"
                " column after a colon, as in 'DATA:COLUMN'"
            )
        if not found:
            raise TextError(
                f"text '{source.name}' is empty: it holds no document with a word in it"
            )
        characters = sum(len(document.text) for document in found)
        log.info("%s: %d documents, %d characters", source, len(found), characters)
        documents += found
    return documents


def parse_mixture(spec: str) -> list[tuple[str, float]]:
    """The parts of a spec with their shares, which sum to 1; a plain spec is one part.

    >>> parse_mixture("a.jsonl=3,b.txt=1")
    [('a.jsonl', 0.75), ('b.txt', 0.25)]
    >>> parse_mixture("stdlib")
    [('stdlib', 1.0)]

    Raises:
        TextError: a part without a positive number for its weight.
    """
    tail = spec.rpartition("=")[2]
    # A file whose name has an equals sign is a file, not a mixture.
    if is_there(spec) or "=" not in spec or not ("," in spec or _is_number(tail)):
        return [(spec, 1.0)]
    parts = []
    for entry in spec.split(","):
        name, _, weight = entry.strip().rpartition("=")
        if not (name and _is_number(weight) and 0 < float(weight) < float("inf")):
            raise TextError(
                f"'{entry.strip()}' in the mixture '{spec}' has no weight above 0: "
                "write every part as NAME=WEIGHT, as in 'a.txt=0.7,b.txt=0.3'"
            )
        parts.append((name, float(weight)))
    names = [name for name, _ in parts]
    if len(set(names)) < len(names):
        raise TextError(f"the mixture '{spec}' names a part twice: give it once, with its weight")
    total = sum(weight for _, weight in parts)
    return [(name, weight / total) for name, weight in parts]


def _open_source(
    spec: str,
    share: float,
    rows: RowReader,
    half: Half,
    rng: "np.random.Generator",
) -> tuple[TextSource, Iterable[NamedText]]:
    if spec == "stdlib":
        name = f"stdlib ({half} half), Python {platform.python_version()}"
        return TextSource(name, share), _stdlib(half)
    # What is on this machine comes before a data set of the same name.
    local = _local(spec)
    if local is not None:
        path, rows.column = local
        files = find_files(path)
        texts = read_files(path, files, rows)
        return TextSource(path.resolve().name, share, files_sha256(files)), texts
    if "://" in spec:
        raise TextError(f"text '{spec}' is an address, and none is fetched: save it to a file")
    hub = parse_hub(spec)
    if hub is None or _looks_like_a_path(spec):
        raise TextError(
            f"text '{spec}' is not there: give a file, a folder, a data set as "
            "NAME:CONFIG:SPLIT:COLUMN, or 'stdlib'"
        )
    revision = find_revision(hub)
    rows.column = hub.column
    texts = read_hub(hub, revision, rows, seed=int(rng.integers(2**31)))
    return TextSource(_hub_name(hub, revision), share), texts


def _local(spec: str) -> tuple[Path, str | None] | None:
    """The path and the column of a spec that names something on this machine."""
    if not spec:
        return None
    if is_there(whole := expanded(spec)):
        return whole, None
    path, colon, column = spec.rpartition(":")
    # The last colon: a path may hold others, as on Windows.
    if colon and path and column and is_there(expanded(path)):
        return expanded(path), column
    return None


def path_of(spec: str) -> Path | None:
    """The file or folder on this machine that a spec names; None where it names something else.

    >>> path_of("stdlib") is None
    True
    """
    local = _local(spec)
    return None if local is None else local[0]


def _looks_like_a_path(spec: str) -> bool:
    # A misspelt file name must not be looked up on the Hub.
    known = is_text_name(spec.partition(":")[0])
    return known or spec.startswith((".", "/", "~")) or "\\" in spec


def _is_hub(spec: str) -> bool:
    hub = None if spec == "stdlib" or _local(spec) else parse_hub(spec)
    return hub is not None and not hub.is_articles_by_line


def _hub_name(hub: HubText, revision: str | None) -> str:
    name = ":".join(part for part in (hub.name, hub.config, hub.split) if part)
    return f"{name} at {revision[:12]}" if revision else name


def _stdlib(half: Half) -> list[NamedText]:
    try:
        return stdlib_documents(half)
    except FileNotFoundError as error:
        raise TextError(f"'stdlib' is not there: {error}; give a text file instead") from error


def _sample(
    texts: Iterable[NamedText],
    sequences: int,
    length: int,
    rng: "np.random.Generator",
    *,
    in_random_order: bool,
) -> list[NamedText]:
    """A uniform sample of documents that fills the sequences, in one pass and bounded memory.

    Every document draws a number; those with the smallest stay, as many as the sequences need.
    A stream already in random order is read only as far as that.
    """
    # Counted in characters: to tokenize every document would take far longer.
    enough = CHARACTERS_PER_TOKEN * sequences * length
    kept: list[tuple[float, int, NamedText]] = []  # a heap, largest draw on top
    characters = 0
    for place, named in enumerate(texts):
        # Negated, for `heapq` keeps the smallest on top and the largest draw has to go.
        draw = -float(place) if in_random_order else -float(rng.random())
        heapq.heappush(kept, (draw, -place, named))
        characters += len(named[1])
        while len(kept) > 2 * sequences and characters - len(kept[0][2][1]) >= enough:
            characters -= len(heapq.heappop(kept)[2][1])
            if in_random_order:
                return [text for _, _, text in sorted(kept, reverse=True)]
    return [named for _, _, named in sorted(kept, key=lambda entry: -entry[1])]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
