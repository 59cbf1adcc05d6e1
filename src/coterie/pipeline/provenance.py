"""Where a number came from: versions, machine, command; never a path or a user's name."""

import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath

_PACKAGES = ("coterie", "torch", "transformers", "safetensors", "tokenizers", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Version of everything a number depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine(threads: int, device: str) -> dict[str, str | int]:
    """What kind of machine this is, in words that name nobody."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "threads": threads,
        "device": device,
    }


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command as typed, every path in it reduced to its last part."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return shlex.join(["coterie", *map(_bare, words)])


def _bare(word: str) -> str:
    flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if value.startswith(("/", "~", "./", "../", ".\\", "..\\")) or PurePath(value).is_absolute():
        value = PurePath(value).name or "."
    return f"{flag}{equals}{value}"
