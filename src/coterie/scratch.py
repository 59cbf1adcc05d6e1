"""Folders for what a run keeps only meanwhile; what killed runs left, the next one removes."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from secrets import token_hex

from coterie.errors import MachineError

try:
    import fcntl
except ImportError:  # Windows: nobody knows who still lives, so nothing of others is removed
    fcntl = None  # type: ignore[assignment]

_START = "coterie-scratch-"


class Scratch:
    """An empty folder in the system's folder for temporary files, which is gone when it is closed.

    As long as its process lives it is locked: by that the next run knows what a killed one left,
    also where processes of several containers share the folder and each has numbers of its own.

    >>> with Scratch() as folder:
    ...     (folder / "state").write_text("…")
    1
    >>> folder.exists()
    False

    Args:
        inside: Another folder than the system's.

    Raises:
        MachineError: it cannot be made; says how to name another place.
    """

    def __init__(self, inside: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir() if inside is None else inside)
        sweep_dead(parent)
        try:
            made = Path(tempfile.mkdtemp(prefix="coterie-", dir=parent))
        except OSError as error:
            raise MachineError(
                f"no folder for temporary files can be made in {parent} ({error.strerror}): set"
                " TMPDIR to a folder with room that can be written"
            ) from error
        lock = _locked(made)
        # Only now under a name that is swept: a folder without its lock would be taken for dead.
        self.path = made.rename(parent / f"{_START}{token_hex(8)}")
        self._end = weakref.finalize(self, _removed, self.path, lock)

    def close(self) -> None:
        """Remove it, with all that is in it."""
        self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep_dead(parent: Path) -> None:
    """Remove the scratch folders whose processes are gone.

    Args:
        parent: Folder they lie in.
    """
    if fcntl is None:
        return
    for folder in parent.glob(f"{_START}*"):
        lock = None if folder.is_symlink() else _locked(folder)
        if lock is not None:
            _removed(folder, lock)


def _locked(folder: Path) -> int | None:
    """A lock on a folder, held until the process ends; None where another holds it."""
    if fcntl is None:
        return None
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:  # of another user, or gone meanwhile
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _removed(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)
