"""What is done to a command from inside its process: kills, errors, clocks, sockets, allocators."""

import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .commands import Act, changes, look, whole

_REMOVALS = ("os.remove", "os.rmdir", "shutil.rmtree")


def at_change(number: int, place: Path, do: Callable[[str], None], *, removals: bool = True) -> Act:
    """Do something when the process changes a path for the n-th time.

    Args:
        number: Which change, from 0.
        place: Only what lies here counts.
        do: Given the path; what it raises, the process meets there.
        removals: Removals count too; whoever refuses them cannot ask that nothing be left.
    """

    return _at(
        number,
        place,
        do,
        lambda event, args: [] if event in _REMOVALS and not removals else changes(event, args),
    )


def at_read(number: int, place: Path, do: Callable[[str], None]) -> Act:
    """Do something when the process opens a file for reading for the n-th time; as `at_change`."""

    def read(event: str, args: tuple[object, ...]) -> list[str]:
        reads = event == "open" and isinstance(args[0], str) and not changes(event, args)
        return [whole(str(args[0]))] if reads else []

    return _at(number, place, do, read)


def _at(
    number: int,
    place: Path,
    do: Callable[[str], None],
    paths: Callable[[str, tuple[object, ...]], Iterable[str]],
) -> Act:
    """Do something at the n-th path below a place that events of the process are about."""

    def act() -> None:
        left = [number]

        def seen(event: str, args: tuple[object, ...]) -> None:
            for path in paths(event, args):
                if path.startswith(str(place)):
                    left[0] -= 1
                    if left[0] == -1:
                        do(path)

        look(seen)

    return act


def killed(_: str) -> None:
    """The process is gone at this moment."""
    os.kill(os.getpid(), signal.SIGKILL)


def refused(number: int) -> Callable[[str], None]:
    """The system refuses, with this number of `errno`."""

    def do(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    return do


def gone(path: str) -> None:
    """Somebody removes the file, or the whole folder it lies in."""
    file = Path(path)
    if len(path) % 2 and file.parent.name in ("model", "cut"):
        shutil.rmtree(file.parent, ignore_errors=True)
    elif file.is_file():
        file.unlink()


def no_memory(number: int, words: str) -> Act:
    """The allocator of torch gives nothing at the n-th operation.

    Args:
        number: Which operation of torch, from 0.
        words: What it raises: ``cuda``, ``cpu`` or ``python``.
    """

    def act() -> None:
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        errors = {
            "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "cpu": RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate"
                " memory: you tried to allocate 99 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "python": MemoryError(),
        }

        class Counted(TorchDispatchMode):
            left = number

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
                self.left -= 1
                if self.left == -1:
                    raise errors[words]
                return func(*args, **(kwargs or {}))

        Counted().__enter__()

    return act


def operations(log: Path) -> Act:
    """Count the operations of torch, and write their number to a file as the process goes on."""

    def act() -> None:
        from torch.utils._python_dispatch import TorchDispatchMode

        class Counted(TorchDispatchMode):
            seen = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
                self.seen += 1
                if self.seen % 50 == 0:
                    log.write_text(str(self.seen))
                return func(*args, **(kwargs or {}))

        Counted().__enter__()

    return act


def jumping_clock(rng: random.Random) -> Act:
    """The time of day jumps by years, either way; the monotonic clock by hours, forward."""

    def act() -> None:
        day, steady, ahead = time.time, time.monotonic, [0.0]

        def steadily() -> float:
            ahead[0] += rng.choice([0, 0, 0, 3600, 86400])
            return steady() + ahead[0]

        time.time = lambda: day() + rng.choice([0, -3e8, 3e8, -day(), 2.0**31])
        time.time_ns = lambda: int(1e9 * time.time())
        time.monotonic = steadily

    return act


def no_network() -> None:
    """Whoever asks for a connection is told so on stderr, where it counts as a fault."""

    def connect(*_: object, **__: object) -> None:
        print("the network was asked", file=sys.stderr)
        raise OSError("no network in this trial")

    socket.socket.connect = connect  # type: ignore[method-assign,assignment]
    socket.create_connection = connect  # type: ignore[assignment]
    socket.getaddrinfo = connect  # type: ignore[assignment]


def as_nobody() -> None:
    """The process is that of a user who owns nothing."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
