"""Where a number came from: versions, machine, command; never a path or a user's name."""

import os
import platform
from pathlib import Path

# What a number can depend on; a report without these cannot be repeated.
_PACKAGES = ("coterie", "torch", "transformers", "safetensors", "tokenizers", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Version of everything a number depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        # Not installed is a fact too: the report says so.
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine(threads: int, device: str) -> dict[str, str | int]:
    """What kind of machine this is, in words that name nobody."""
    # Kind and size only: a machine's name may name its owner.
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "threads": threads,
        "device": device,
    }


def bare(text: str | None) -> str | None:
    """A word without the folders before it: paths name machines and users, reports do not.

    Only what is a path on this machine, or can be nothing else, is shortened; every part of a
    mixture is looked at.
    """
    if text is None:
        return None
    return ",".join(_bare_part(part) for part in text.split(","))


# A mixture weighs its parts: a=0.7,b=0.3; each may be a path.
def _bare_part(part: str) -> str:
    name, equals, weight = part.rpartition("=") if "=" in part else (part, "", "")
    path = Path(name)
    # A Hub id has a slash too: it is a path only if it is there.
    if path.is_absolute() or name.startswith(("~", ".")) or (os.sep in name and path.exists()):
        name = path.name or "."
    return f"{name}{equals}{weight}"
