"""Live states that main memory cannot hold wait in files."""

import weakref
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

import torch
from torch import Tensor

from coterie.scratch import Scratch


@dataclass(eq=False)
class Spilled:
    """A state in a file; the file is deleted when this object is."""

    file: Path
    shape: torch.Size
    dtype: torch.dtype

    def load(self) -> Tensor:
        """The state, read back."""
        state = torch.empty(self.shape, dtype=self.dtype)
        raw = state.flatten().view(torch.uint8)
        with self.file.open("rb", buffering=0) as stream:
            if read_fully(stream, raw) < len(raw):
                raise OSError(f"{self.file} became shorter than the state that was written to it")
        return state


def read_fully(stream: RawIOBase, raw: Tensor) -> int:
    """Fill a buffer of bytes from a file; returns the bytes read, fewer only at the file's end."""
    target, done = raw.numpy().data, 0
    # An unbuffered read may return less than it was asked for.
    while done < len(target) and (more := stream.readinto(target[done:])):
        done += more
    return done


class Spill:
    """Keeps states in memory while they fit, and in files beyond.

    Args:
        memory: Bytes of states that may stay in memory.
        folder: Where the files go; by default the system's folder for temporary files.

    Attributes:
        written: Bytes written so far.
    """

    def __init__(self, memory: int, folder: Path | None = None) -> None:
        self.memory, self.written = memory, 0
        self._held = 0
        self._folder = Scratch(folder)

    def keep(self, state: Tensor) -> Tensor | Spilled:
        """The state as it can be kept: itself, or a file it was written to."""
        state = state.to("cpu")
        size = state.numel() * state.element_size()
        if self._held + size <= self.memory:
            self._held += size
            # When the walk drops the state, its bytes may be used again, without a call.
            weakref.finalize(state, self._forget, size)
            return state
        file = self._folder.path / f"{self.written}.state"
        with file.open("wb") as stream:
            stream.write(state.contiguous().view(torch.uint8).numpy().data)
        self.written += size
        spilled = Spilled(file, state.shape, state.dtype)
        weakref.finalize(spilled, file.unlink, missing_ok=True)
        return spilled

    def close(self) -> None:
        """Remove the files."""
        self._folder.close()

    def _forget(self, size: int) -> None:
        self._held -= size
