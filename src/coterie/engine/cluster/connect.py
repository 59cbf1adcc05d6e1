"""The way to a Ray cluster: found, or refused in one line within seconds.

Ray is imported here and nowhere else, when a cluster is asked for.
"""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from io import TextIOBase
from threading import current_thread
from types import ModuleType
from typing import TextIO

from coterie.errors import UserError
from coterie.foreign import reason

log = logging.getLogger(__name__)

_NO_RAY = "--cluster needs Ray, which is not installed here: pip install 'coterie[cluster]'"

CONNECTING = 5.0
"""Seconds in which the address of a cluster must answer."""

# What every speaker of HTTP/2 begins with, and an empty frame of settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
_SETTINGS = 4


def ray_library() -> ModuleType:
    """Ray, which reports nothing to anybody.

    Raises:
        UserError: it is not installed; says how to.
    """
    # Read when Ray is imported, by it and by all that it starts.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        return import_module("ray")
    except ImportError as error:
        raise UserError(_NO_RAY) from error


def check_reachable(address: str) -> None:
    """Refuse what cannot work before anything is loaded: no Ray, or nobody at the address.

    Raises:
        UserError: either of them.
    """
    if find_spec("ray") is None:
        raise UserError(_NO_RAY)
    # A program that has made a connection of its own names no address that counts.
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        check_address(address)


@contextmanager
def connected(address: str) -> Iterator[ModuleType]:
    """Inside this block, Ray is connected to a cluster that runs already.

    A connection that the caller's program has made is used, and left as it was.

    Args:
        address: ``auto`` for the cluster that this machine belongs to, or ``HOST:PORT``.

    Raises:
        UserError: there is no such cluster, or it cannot be joined.
    """
    ray = ray_library()
    if ray.is_initialized():
        yield ray
        return
    check_address(address)
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            include_dashboard=None,
        )
    except ConnectionError as error:
        raise UserError(
            f"--cluster {address} finds no Ray cluster on this machine: start one with `ray start"
            " --head`, or give the HOST:PORT of one"
        ) from error
    except Exception as error:
        raise UserError(
            f"the Ray cluster of --cluster {address} cannot be joined ({reason(error)}): this"
            " machine must belong to it, with the same versions of Python and Ray"
        ) from error
    out = sys.stdout
    sys.stdout = _WithoutRay(out)
    try:
        yield ray
    finally:
        sys.stdout = out
        ray.shutdown()


class _WithoutRay(TextIOBase):
    """Standard output without what Ray's own threads print there: `--json` stays JSON.

    Args:
        out: Standard output.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        """Write what is ours; what Ray says of workers is in our own warnings."""
        if current_thread().name.startswith("ray_"):
            log.debug("Ray: %s", text.strip())
            return len(text)
        return self._out.write(text)

    def flush(self) -> None:
        """Flush standard output."""
        self._out.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._out.isatty()

    def fileno(self) -> int:
        """Its number for the system."""
        return self._out.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What text is encoded in."""
        return self._out.encoding


def check_address(address: str) -> None:
    """Refuse an address where no cluster answers, before Ray waits for one.

    Raises:
        UserError: it is no address, nobody answers there, or somebody else than Ray.
    """
    told = f"--cluster {address}"
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")
        if address in ("", "auto", "local"):
            return  # Ray looks for one on this machine
        told += f" (RAY_ADDRESS is {address})"
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UserError(
            f"{told} is no address of a cluster: give auto, or HOST:PORT as `ray start --head`"
            " prints it; what runs elsewhere goes through `ray job submit`"
        )
    try:
        with socket.create_connection((host, int(port)), CONNECTING) as line:
            line.settimeout(CONNECTING)
            line.sendall(_HELLO)
            answer = line.recv(9)
    except OSError as error:
        why = error.strerror or "no answer"
        raise UserError(
            f"{told} cannot be reached ({why}): is the cluster running, and is this its HOST:PORT?"
        ) from error
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise UserError(f"{told} is answered by something else than Ray: check HOST and PORT")
