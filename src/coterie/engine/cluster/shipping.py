"""A checkpoint on its way to machines that do not have it: its files, in pieces.

Only weights, configs and the model's own Python files travel, as bytes; nothing is unpickled.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coterie.models.files.sources import Source

PIECE = 64 * 2**20
"""Bytes of a piece."""

_BESIDE = ("*.json", "*.py")
"""What loading reads beside the weights."""


def files_to_ship(source: Source) -> list[Path]:
    """The files that a worker needs to load a checkpoint; no tokenizer: texts come as tokens."""
    beside = {file for pattern in _BESIDE for file in source.folder.glob(pattern)}
    return sorted({*source.files, *(file for file in beside if file.is_file())})


def pieces(file: Path) -> Iterator[NDArray[np.uint8]]:
    """The content of a file, piece by piece."""
    with file.open("rb") as stream:
        while chunk := stream.read(PIECE):
            yield np.frombuffer(chunk, dtype=np.uint8)


def receive(folder: Path, name: str, parts: Iterator[NDArray[np.uint8]]) -> None:
    """Write a file from its pieces.

    Args:
        folder: Where to.
        name: Of the file, without any folder.
        parts: Its content.
    """
    with (folder / Path(name).name).open("wb") as stream:
        for part in parts:
            stream.write(part.tobytes())
