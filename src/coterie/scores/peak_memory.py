"""The peak of memory in a block of work, on a GPU or of the process."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """Measure the peak of a block above its start, bytes; None where the system does not report it.

    On CUDA the allocator counts; on the CPU Linux does, as resident memory of the process.
    """
    before: int | None = None
    peak: int | None = None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    elif device.type == "cpu":
        before = _restart_resident_peak()
    # The peak is read when the block has ended, so what is given is a function.
    yield lambda: None if before is None or peak is None else max(0, peak - before)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _restart_resident_peak() -> int | None:
    """Set the kernel's high-water mark back to what is resident now, and return that."""
    gc.collect()
    # What an earlier model freed must go back first, or this one would use it without a trace.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)
