"""Safetensors files as byte ranges: read their headers, check them, hash them, without a tensor."""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from coterie.errors import ModelError

_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000  # the format's own limit
_CHUNK = 16 * 2**20


class _Field(TypedDict):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: absolute byte range ``[start, stop)`` of ``file``."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def n_bytes(self) -> int:
        """Size in bytes."""
        return self.stop - self.start

    @property
    def n_values(self) -> int:
        """Number of entries of the tensor."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True)
class Header:
    """What one safetensors file says it holds."""

    entries: tuple[Entry, ...]
    metadata: dict[str, str]


def read_header(file: Path) -> Header:
    """Read the header of a safetensors file and check that the file is as long as it says.

    Raises:
        ModelError: The file is truncated, has bytes too many, or its header cannot be read.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(_LENGTH_BYTES)
        if len(first) < _LENGTH_BYTES:
            raise _broken(file, f"holds {size} bytes, too few for a header")
        length = struct.unpack("<Q", first)[0]
        if length > min(_LARGEST_HEADER, size - _LENGTH_BYTES):
            raise _broken(file, f"announces a header of {length} bytes but holds {size} in all")
        text = stream.read(length)
    try:
        fields = json.loads(text)
        metadata = fields.pop("__metadata__", {})
        offset = _LENGTH_BYTES + length
        entries = tuple(_entry(name, file, offset, field) for name, field in fields.items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(file, f"has a header that cannot be read ({error})") from error
    end = max((entry.stop for entry in entries), default=offset)
    if end != size:
        raise _broken(file, f"should hold {end} bytes by its header, holds {size}")
    return Header(tuple(sorted(entries, key=lambda entry: entry.start)), metadata)


def _entry(name: str, file: Path, offset: int, field: "_Field") -> Entry:
    start, stop = field["data_offsets"]
    return Entry(name, file, field["dtype"], tuple(field["shape"]), offset + start, offset + stop)


def _broken(file: Path, what: str) -> ModelError:
    return ModelError(f"{file.name} {what}: it is truncated or corrupt, download it again")


def hash_files(files: list[Path]) -> str:
    """SHA-256 over names and contents, in the order of the names; 64 hexadecimal digits."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        one = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                one.update(chunk)
        total.update(file.name.encode() + b"\0" + one.digest())
    return total.hexdigest()
