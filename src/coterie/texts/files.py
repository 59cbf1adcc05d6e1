"""Documents of local files: text, JSON lines, a JSON list, Parquet, or a folder of them.

What one document is:

- a row of a JSON-lines, JSON-list or Parquet file;
- in a text file, what stands between `<|endoftext|>` marks or WikiText article titles;
- else, in a folder of several files, each text file (a book of a library);
- else, in a text file alone, what stands between form feeds, or where there are none about 2,000
  words of it, cut between paragraphs, fewer if it holds less than eight times that: so that whole
  documents can be set aside.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.errors import TextError
from coterie.texts.rows import NamedText, pick_column, row_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("coterie.texts")

TEXT_SUFFIXES = (".txt", ".text", ".raw")
TABLE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
WORDS_PER_DOCUMENT = 2_000

_MARK = "<|endoftext|>"
_ARTICLE = re.compile(r"^(?= = [^=\n]+ = *$)", re.MULTILINE)  # WikiText: " = Title = "
_BLOCKS = re.compile(r".+?(?:\n[ \t\r]*\n\s*|\Z)", re.DOTALL)


def find_files(path: Path) -> list[Path]:
    """The files a path stands for: itself, or every text and table below a folder, by name.

    Raises:
        TextError: a folder without such a file.
    """
    if path.is_file():
        return [path]
    suffixes = TEXT_SUFFIXES + TABLE_SUFFIXES
    # Sorted, so that the documents and the hash do not depend on the file system.
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and file.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise TextError(
            f"folder '{path.name}' holds no text: no file below it ends in {', '.join(suffixes)}"
        )
    return files


def files_sha256(files: list[Path]) -> str:
    """A hash of the contents of the files, in order."""
    digests = []
    for file in files:
        # By chunks: a corpus may be larger than memory.
        with _open(file) as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def read_files(
    path: Path, files: list[Path], column: str | None, tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[NamedText]:
    """The documents of the files found under a path, named by file and place in it.

    Args:
        path: What was named: a file or a folder.
        files: What `find_files` found there.
        column: Of tables: where the text is; None looks for it.
        tokenizer: Renders chat messages through its template.

    Raises:
        TextError: a file that is not UTF-8, a malformed row, a column that is not there.
    """
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        log.debug("reading %s", name)
        suffix = file.suffix.lower()
        if suffix in (".jsonl", ".ndjson"):
            yield from _json_lines(file, name, column, tokenizer)
        elif suffix == ".json":
            yield from _json_list(file, name, column, tokenizer)
        elif suffix == ".parquet":
            yield from _parquet(file, name, column, tokenizer)
        else:
            if column is not None:
                raise TextError(f"'{name}' is plain text, without columns: leave out ':{column}'")
            yield from _plain(file, name, alone=len(files) == 1)


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
    return _cut_by_words(text) if alone else [text]


def _cut_by_words(text: str) -> list[str]:
    # At least about eight documents, so that half of them can be set aside.
    target = max(1, min(WORDS_PER_DOCUMENT, len(text.split()) // 8))
    documents: list[str] = []
    current: list[str] = []
    words = 0
    for piece in _pieces(text, target):
        current.append(piece)
        words += len(piece.split())
        if words >= target:
            documents.append("".join(current))
            current, words = [], 0
    rest = "".join(current)
    # A short rest joins the last document: a tiny one would hardly fill a sequence.
    if documents and words < target / 2:
        documents[-1] += rest
    else:
        documents.append(rest)
    return documents


def _pieces(text: str, target: int) -> Iterator[str]:
    """Paragraphs; the lines of a paragraph too long for a document; the words of such a line."""
    for block in _BLOCKS.findall(text):
        if len(block.split()) <= target:
            yield block
            continue
        for line in block.splitlines(keepends=True):
            yield from [line] if len(line.split()) <= target else re.findall(r"\s*\S+\s*", line)


def _plain(file: Path, name: str, *, alone: bool) -> Iterator[NamedText]:
    with _open(file) as stream:
        text = _decode(stream.read(), name, 0)
    documents = split_text(text, alone=alone)
    for place, document in enumerate(documents):
        yield (name if len(documents) == 1 else f"{name}#{place}"), document


def _json_lines(
    file: Path, name: str, column: str | None, tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[NamedText]:
    offset = 0
    with _open(file) as stream:
        for number, raw in enumerate(stream, start=1):
            line = _decode(raw, name, offset)
            offset += len(raw)
            if line.strip():
                where = f"'{name}', line {number}"
                yield f"{name}:{number}", row_text(_parse(line, where), column, tokenizer, where)


def _json_list(
    file: Path, name: str, column: str | None, tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[NamedText]:
    with _open(file) as stream:
        text = _decode(stream.read(), name, 0)
    if not text.strip():
        return
    rows = _parse(text, f"'{name}'")
    if not isinstance(rows, list):
        raise TextError(
            f"'{name}' is one JSON value, not a list; a .json file holds a list of texts or of "
            "objects with a text column (one object a line is a .jsonl file)"
        )
    for place, row in enumerate(rows):
        yield f"{name}[{place}]", row_text(row, column, tokenizer, f"'{name}', entry {place}")


def _parquet(
    file: Path, name: str, column: str | None, tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[NamedText]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise TextError(
            f"'{name}' is a Parquet file, which needs pyarrow: pip install pyarrow"
        ) from error
    try:
        with parquet.ParquetFile(file) as table:
            picked = pick_column(table.schema_arrow.names, column, f"'{name}'")
            place = 0
            for batch in table.iter_batches(batch_size=256, columns=[picked]):
                for row in batch.to_pylist():
                    where = f"'{name}', row {place}"
                    yield f"{name}[{place}]", row_text(row, picked, tokenizer, where)
                    place += 1
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TextError(f"'{name}' cannot be read as Parquet: {reason}") from error


def _open(file: Path) -> BufferedReader:
    try:
        return file.open("rb")
    except OSError as error:
        raise TextError(f"text '{file.name}' cannot be opened: {error.strerror}") from error


def _decode(raw: bytes, name: str, offset: int) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"'{name}' is not UTF-8: byte {offset + error.start} is "
            f"0x{raw[error.start]:02x}; save it as UTF-8"
        ) from error
    return text.removeprefix("\ufeff") if offset == 0 else text


def _parse(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}"
        raise TextError(f"{where} is not JSON: {error.msg} at {place}") from error
