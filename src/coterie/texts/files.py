"""Documents of local files: text, JSON lines, a JSON list, CSV, TSV, Parquet, or a folder of them.

What one document is:

- a row of a table (JSON lines, a JSON list, CSV, TSV, Parquet);
- in a text file, what stands between `<|endoftext|>` marks or WikiText article titles;
- else, in a folder of several files, each text file (a book of a library);
- else, in a text file alone, a part of it, as `plain_text` cuts it.

Each of them may be packed with gzip. What is not known to be a text is refused.
"""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from coterie.errors import TextError
from coterie.texts.formats import (
    TABLE_SUFFIXES,
    TEXT_SUFFIXES,
    check_is_text,
    decode,
    is_found,
    kind_of,
    unpacked,
)
from coterie.texts.plain_text import split_text
from coterie.texts.rows import NamedText, RowReader
from coterie.texts.tables import read_table

log = logging.getLogger("coterie.texts")


def find_files(path: Path) -> list[Path]:
    """The files a path stands for: itself, or every text and table below a folder, by name.

    Raises:
        TextError: a folder without such a file, or a file of a kind that is not read.
    """
    if path.is_file():
        kind_of(path)
        return [path]
    if not path.is_dir():
        raise TextError(f"text '{path.name}' is neither a file nor a folder: save it to a file")
    # Sorted, so that the documents and the hash do not depend on the file system.
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and is_found(file)
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        known = ", ".join(TEXT_SUFFIXES + TABLE_SUFFIXES)
        raise TextError(f"folder '{path.name}' holds no text: no file below it ends in {known}")
    return files


def files_sha256(files: list[Path]) -> str:
    """A hash of the contents of the files, in order."""
    digests = []
    for file in files:
        # By chunks: a corpus may be larger than memory. Packed files are hashed as they lie there.
        try:
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
        except OSError as error:
            raise TextError(f"text '{file.name}' cannot be opened: {error.strerror}") from error
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def read_files(path: Path, files: list[Path], rows: RowReader) -> Iterator[NamedText]:
    """The documents of the files found under a path, named by file and place in it.

    Args:
        path: What was named: a file or a folder.
        files: What `find_files` found there.
        rows: Turns rows of tables into texts.

    Raises:
        TextError: a file that is not UTF-8, a malformed row, a column that is not there.
    """
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        log.debug("reading %s", name)
        kind = kind_of(file)
        if kind != "plain":
            yield from read_table(kind, file, name, rows)
            continue
        if rows.column is not None:
            raise TextError(f"'{name}' is plain text, without columns: leave out ':{rows.column}'")
        yield from _plain(file, name, alone=len(files) == 1)


def _plain(file: Path, name: str, *, alone: bool) -> Iterator[NamedText]:
    with unpacked(file, name) as stream:
        raw = stream.read()
    check_is_text(raw, name)
    documents = split_text(decode(raw, name, 0), alone=alone)
    for place, document in enumerate(documents):
        yield (name if len(documents) == 1 else f"{name}#{place}"), document
