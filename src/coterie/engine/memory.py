"""How much memory is free, on a device or in the machine."""

import os
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")

FREE_SHARE = 0.5
"""Share of the free memory that live states may take unless another amount is asked for."""


def memory_for_states(asked: int | None, device: torch.device) -> int:
    """Bytes that live states may take on a device: those asked for, or half of what is free."""
    return int(FREE_SHARE * free_bytes(device)) if asked is None else asked


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on ``device``, as the system reports it."""
    if device.type == "cuda":
        # What torch keeps for itself and does not use is as free as what nobody has.
        used = torch.cuda.memory_allocated(device)
        kept = torch.cuda.memory_reserved(device) - used
        free, total = torch.cuda.mem_get_info(device)
        return max(0, min(free + kept, int(_allowed_share(device) * total) - used))
    return free_main_memory()


def _allowed_share(device: torch.device) -> float:
    """The share of a GPU that this process has allowed itself."""
    ask = getattr(torch.cuda, "get_per_process_memory_fraction", None)  # since torch 2.8
    return 1.0 if ask is None else float(ask(device))


def free_main_memory() -> int:
    """Bytes of main memory that are free or can be freed, within a container's limit if any."""
    candidates = [_available()]
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        candidates.append(min(limit, max(limit - used, 0) + _reclaimable()))
    return min(candidates)


def _reclaimable() -> int:
    """Bytes that count as used within the container, but are given up when memory is asked for.

    Files that were read, a checkpoint above all, stay in memory until it is needed.
    """
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: half of what is installed is a guess that errs on the safe side
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or the word "max"
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text or "out of memory" in text
    )
