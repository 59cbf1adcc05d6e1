"""Which files are texts, and of which kind: by a list of what is known, not by what is left."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from coterie.errors import TextError

Kind = Literal["plain", "json lines", "json list", "parquet", "csv", "tsv"]

TEXT_SUFFIXES = (".txt", ".text", ".raw")
"""Plain texts that a folder is searched for."""

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(TEXT_SUFFIXES, "plain"),
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".json": "json list",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
}
TABLE_SUFFIXES = tuple(suffix for suffix in _KINDS if suffix not in TEXT_SUFFIXES)

_ALSO_PLAIN = (".md", ".markdown", ".rst", ".tex", ".tokens", ".log", ".py", ".srt")
"""Read where they are named themselves: in a folder they are more often notes beside the texts."""

COMPRESSED = (".gz",)
"""Unpacked while they are read, whatever text is inside."""

_OTHER_PACKINGS = (".zst", ".bz2", ".xz", ".zip", ".7z", ".tar", ".tgz", ".lz4", ".br", ".rar")

# By their first bytes: what no text begins with.
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip file, as office documents are too",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PAR1": "Parquet",
    b"%PDF": "PDF",
    b"ARROW1": "Arrow",
    b"SQLite format 3": "SQLite",
    b"\x89HDF": "HDF5",
}


def is_text_name(name: str) -> bool:
    """Whether a name can be nothing but that of a text file: it is never looked up on the Hub."""
    suffix = Path(name).suffix.lower()
    return suffix in (*_KINDS, *_ALSO_PLAIN, *COMPRESSED, *_OTHER_PACKINGS)


def is_found(file: Path) -> bool:
    """Whether a folder is searched for this file: a known text or table, packed or not."""
    return _inner(file).suffix.lower() in _KINDS


def kind_of(file: Path) -> Kind:
    """The kind of text that a file holds, by its name; a name without an ending is plain text.

    Raises:
        TextError: its ending is that of no kind that is read.
    """
    inner = _inner(file)
    suffix = inner.suffix.lower()
    if suffix in _KINDS:
        return _KINDS[suffix]
    # No ending at all, or one that is part of a name: `notes`, `lr=0.1,epoch=2`.
    if suffix in _ALSO_PLAIN or not re.fullmatch(r"\.[a-z][a-z0-9_]{0,11}", suffix):
        return "plain"
    if suffix in _OTHER_PACKINGS:
        raise TextError(
            f"'{file.name}' is packed in a way that is not read ({suffix}): unpack it, or pack it"
            " as .gz"
        )
    known = ", ".join((*_KINDS, *_ALSO_PLAIN))
    raise TextError(
        f"'{file.name}' ends in {suffix}, which is no kind of text that is read ({known}, each also"
        " with .gz): rename it to .txt if it is plain text, else convert it"
    )


@contextmanager
def unpacked(file: Path, name: str) -> Iterator[BinaryIO]:
    """A text file, unpacked where its name says that it is packed.

    Args:
        file: The file.
        name: What messages call it.

    Raises:
        TextError: it cannot be opened, read or unpacked, here or inside the block.
    """
    packed = file.suffix.lower() in COMPRESSED
    try:
        with file.open("rb") as raw:
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TextError(
            f"'{name}' cannot be unpacked ({error}): it is no gzip file, or only part of one"
        ) from error
    except OSError as error:
        what = "opened" if not file.exists() else "read"
        raise TextError(f"text '{name}' cannot be {what}: {error.strerror or error}") from error


def check_is_text(begin: bytes, name: str) -> None:
    """Refuse content that is no plain text whatever its name says.

    Args:
        begin: Its first bytes.
        name: What messages call the file.

    Raises:
        TextError: it is of another kind, by the bytes it begins with.
    """
    for magic, what in _MAGIC.items():
        if begin.startswith(magic):
            raise TextError(
                f"'{name}' is read as text but holds something else ({what}): give its name the"
                " ending of what it is, or convert it"
            )
    zero = begin.find(0)
    # What a crash leaves of a file, and what any binary begins with; no text holds it.
    if zero >= 0:
        raise TextError(
            f"'{name}' is read as text but holds a zero byte (byte {zero}): it is another kind of"
            " file, or damaged: give its name the ending of what it is, or take such bytes out"
        )


def _inner(file: Path) -> Path:
    """The name of what a packed file holds; that of the file where it is not packed."""
    return file.with_suffix("") if file.suffix.lower() in COMPRESSED else file


def decode(raw: bytes, name: str, offset: int) -> str:
    """Bytes of a file as text, without the mark that some editors put before it.

    Args:
        raw: What was read.
        name: What messages call the file.
        offset: Where in the file it begins.

    Raises:
        TextError: it is not UTF-8; says at which byte.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"'{name}' is not UTF-8: byte {offset + error.start} is "
            f"0x{raw[error.start]:02x}; save it as UTF-8"
        ) from error
    return text.removeprefix("\ufeff") if offset == 0 else text
