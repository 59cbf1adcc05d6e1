"""Write tensors into safetensors files by copying their bytes, a piece at a time."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from coterie.errors import ModelError
from coterie.models.files.tensors import Entry
from coterie.models.files.weights import INDEX

Progress = Callable[[int, int], None]
"""Called with the bytes written so far and the bytes there will be."""

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Floating-point dtypes by their names in safetensors files."""

_CHUNK = 16 * 2**20


@dataclass(frozen=True)
class Piece:
    """One tensor to write: where its bytes are now, and what it will be called."""

    entry: Entry
    name: str
    data: bytes | None = None


def grouped(pieces: list[Piece], max_shard_bytes: int) -> list[list[Piece]]:
    shards: list[list[Piece]] = [[]]
    filled = 0
    for piece in pieces:
        if shards[-1] and filled + piece.entry.n_bytes > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(piece)
        filled += piece.entry.n_bytes
    return shards


def write_shards(
    shards: list[list[Piece]], output: Path, metadata: dict[str, str], progress: Progress | None
) -> tuple[str, ...]:
    """Write tensors into files named as transformers names them; several get an index.

    Args:
        shards: The tensors of each file, in order.
        output: The folder to write into.
        metadata: Goes into the header of each file.
        progress: Told the bytes written and the bytes in all.

    Returns:
        The names of the files.
    """
    total = sum(piece.entry.n_bytes for shard in shards for piece in shard)
    done = 0

    def advance(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if progress is not None:
            progress(done, total)

    weight_map: dict[str, str] = {}
    names = []
    for number, shard in enumerate(shards, start=1):
        single = len(shards) == 1
        part = "" if single else f"-{number:05}-of-{len(shards):05}"
        name = f"model{part}.safetensors"
        with (output / name).open("wb") as stream:
            _write_shard(shard, stream, metadata, advance)
        weight_map |= {piece.name: name for piece in shard}
        names.append(name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (output / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return tuple(names)


def _write_shard(
    shard: list[Piece],
    stream: BinaryIO,
    metadata: dict[str, str],
    advance: Callable[[int], None],
) -> None:
    fields: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for piece in shard:
        if piece.name in fields:
            raise ModelError(f"two tensors of the cut checkpoint would be called {piece.name}")
        fields[piece.name] = {
            "dtype": piece.entry.dtype,
            "shape": list(piece.entry.shape),
            "data_offsets": [offset, offset + piece.entry.n_bytes],
        }
        offset += piece.entry.n_bytes
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # readers map the data that follows: keep it aligned
    stream.write(struct.pack("<Q", len(text)) + text)
    for piece in shard:
        if piece.data is not None:
            stream.write(piece.data)
            advance(len(piece.data))
        else:
            _copy(piece.entry, stream, advance)


def _copy(entry: Entry, stream: BinaryIO, advance: Callable[[int], None]) -> None:
    left = entry.n_bytes
    with entry.file.open("rb") as source:
        source.seek(entry.start)
        while left:
            chunk = source.read(min(_CHUNK, left))
            if not chunk:
                raise ModelError(f"{entry.file.name} ended inside {entry.name}: was it changed?")
            stream.write(chunk)
            left -= len(chunk)
            advance(len(chunk))


def write_over(file: Path, entry: Entry, tensor: Tensor) -> None:
    """Put a tensor in the place of one of the same shape, in the dtype that this has.

    Args:
        file: The file to change: the entry's own, or a copy of it with the same header.
        entry: Where the bytes lie; its dtype must be one of `DTYPES`.
        tensor: What is written in its place.
    """
    values = tensor.detach().to("cpu", DTYPES[entry.dtype]).contiguous()
    with file.open("r+b") as stream:
        stream.seek(entry.start)
        stream.write(values.reshape(-1).view(torch.uint8).numpy().data)
