"""Safetensors files as byte ranges: read their headers, check them, hash them, without a tensor."""

import hashlib
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict

from safetensors import SafetensorError, safe_open

from coterie.errors import ModelError
from coterie.models.files.json_files import LFS_POINTER

if TYPE_CHECKING:
    from torch import Tensor

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
    """Read the header of a safetensors file and check that the file is what it says.

    Raises:
        ModelError: The file is truncated, has bytes too many, or its header cannot be read, by us
            or by the library that will load it.
    """
    with _readable(file):
        size = file.stat().st_size
        with file.open("rb") as stream:
            text = _header_text(file, stream, size)
    offset = _LENGTH_BYTES + len(text)
    try:
        fields = json.loads(text)
        metadata = fields.pop("__metadata__", None) or {}
        entries = tuple(_entry(name, file, offset, field) for name, field in fields.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _broken(file, f"has a header that cannot be read ({error})") from error
    end = max((entry.stop for entry in entries), default=offset)
    if end != size:
        raise _broken(file, f"should hold {end} bytes by its header, holds {size}")
    with opened(file):  # shapes, gaps, metadata: what the library refuses is refused here, first
        return Header(tuple(sorted(entries, key=lambda entry: entry.start)), metadata)


@contextmanager
def opened(file: Path, framework: str = "numpy") -> Iterator["safe_open"]:
    """A safetensors file, open for reading single tensors; the one door to the library.

    Args:
        file: The file.
        framework: What its tensors become: ``"numpy"`` or ``"pt"``.

    Raises:
        ModelError: The file is not there, or the library refuses it, here or inside the block.
    """
    with _readable(file):
        stream = safe_open(file, framework=framework)
    try:
        with stream:
            yield stream
    except SafetensorError as error:
        raise _broken(file, f"is refused by safetensors ({error})") from error


def read_tensor(entry: "Entry") -> "Tensor":
    """One tensor, as it is on disk.

    Raises:
        ModelError: As `opened`.
    """
    with opened(entry.file, "pt") as stream:
        return stream.get_tensor(entry.name)


def read_tensors(file: Path) -> dict[str, "Tensor"]:
    """Every tensor of one file.

    Raises:
        ModelError: As `opened`.
    """
    with opened(file, "pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Errors of the library and of the disk, in words."""
    try:
        yield
    except SafetensorError as error:
        raise _broken(file, f"is refused by safetensors ({error})") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(
            f"{file.name} cannot be read ({reason}): is it there, and may you read it?"
        ) from error


def _header_text(file: Path, stream: BinaryIO, size: int) -> bytes:
    begin = stream.read(len(LFS_POINTER))
    if begin == LFS_POINTER:
        raise ModelError(
            f"{file.name} is a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
        )
    if len(begin) < _LENGTH_BYTES:
        raise _broken(file, f"holds {size} bytes, too few for a header")
    length = struct.unpack("<Q", begin[:_LENGTH_BYTES])[0]
    if length > min(_LARGEST_HEADER, size - _LENGTH_BYTES):
        raise _broken(file, f"announces a header of {length} bytes but holds {size} in all")
    stream.seek(_LENGTH_BYTES)
    return stream.read(length)


def _entry(name: str, file: Path, offset: int, field: "_Field") -> Entry:
    start, stop = field["data_offsets"]
    return Entry(
        name=name,
        file=file,
        dtype=field["dtype"],
        shape=tuple(field["shape"]),
        start=offset + start,
        stop=offset + stop,
    )


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
