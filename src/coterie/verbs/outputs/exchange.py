"""A finished folder takes its place: by renames, so that the place is whole or as it was before."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from coterie.errors import UserError

_MOUNTS = Path("/proc/self/mountinfo")


def beside(place: Path, what: str) -> Path:
    """A hidden folder or file next to a place, of the same file system."""
    return place.parent / f".{place.name}.{what}"


def put_away(place: Path) -> Path | None:
    """What a run that was killed within an exchange had put away, where nothing took its place."""
    old = beside(place, "old")
    return old if old.is_dir() and not place.exists() else None


def mend(place: Path) -> None:
    """Clear up after runs that were killed; what an exchange had put away comes back."""
    old = beside(place, "old")
    if put_away(place) is not None:
        old.rename(place)
    shutil.rmtree(old, ignore_errors=True)
    # Folders of runs that still live are left to them.
    for partial in place.parent.glob(f".{_escaped(place.name)}.partial-*"):
        if not _alive(partial.name.rpartition("-")[2]):
            shutil.rmtree(partial, ignore_errors=True)


def is_partial(place: Path, path: Path) -> bool:
    """Whether a path lies in the unfinished folder of a run for this place."""
    start = f".{place.name}.partial-"
    return any(
        one.parent == place.parent and one.name.startswith(start) for one in (path, *path.parents)
    )


@contextmanager
def partial_folder(place: Path) -> Iterator[Path]:
    """An empty folder beside a place, which is gone at the end unless it was renamed.

    Args:
        place: Where the folder will go.
    """
    # Two runs of one process may write for one place; the last part says whose it is.
    folder = beside(place, f"partial-{token_hex(4)}-{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_as_the_user_wants(folder: Path) -> None:
    """Give all files of a folder the mode that the umask asks for: some libraries write 0600.

    Args:
        folder: As it was made by `partial_folder`, with the mode that the umask leaves.
    """
    allowed = folder.stat().st_mode & 0o777
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(allowed if path.is_dir() else allowed & 0o666)


def rehearse_exchange(place: Path, new: Path, *, told: str) -> None:
    """Let a folder take a free place beside the real one, by the same acts, and remove it.

    Args:
        place: Where the real one will go.
        new: A folder beside it.
        told: The place as the user named it.

    Raises:
        UserError: the system refuses the rename.
    """
    # A name that clearing up after killed runs knows.
    free = beside(place, f"partial-{token_hex(4)}-{os.getpid()}")
    try:
        exchange(free, new, told=told, overwrite=False)
    finally:
        shutil.rmtree(free, ignore_errors=True)


def exchange(place: Path, new: Path, *, told: str, overwrite: bool) -> None:
    """Let a finished folder take its place; what was there is back if that fails.

    Args:
        place: Where it goes.
        new: The folder that was written beside it.
        told: The place as the user named it.
        overwrite: What is there is replaced; without it, only an empty folder is.

    Raises:
        UserError: the folder was filled meanwhile, or the system refuses the rename.
    """
    try:
        if _is_taken(place):
            if not overwrite:
                raise filled(told)
            _replace(place, new, beside(place, "old"))
        # A rename onto an empty folder is one act; one that was filled just now refuses it.
        else:
            new.rename(place)
    except OSError as error:
        if not overwrite and _is_taken(place):
            raise filled(told) from error
        raise UserError(
            f"--output {told} could not be put in place ({error.strerror}), so everything there is"
            " as it was: name another folder"
        ) from error


def filled(told: str) -> UserError:
    """Another run has finished here meanwhile."""
    return UserError(
        f"--output {told} was filled by another run while this one was working: name another folder"
    )


def mounts_in(place: Path) -> list[Path]:
    """Mount points at a place or below it: a rename stops there, and a deletion does not."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no Linux: the place itself can be asked all the same
        return [place] if os.path.ismount(place) else []
    # The fifth field is the mount point, white space in it written in octal.
    points = [Path(_unescaped(line.split(" ")[4])) for line in lines]
    return [point for point in points if point == place or place in point.parents]


# Two renames: at no moment is a half-written folder in the place.
def _replace(place: Path, new: Path, old: Path) -> None:
    place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_taken(place: Path) -> bool:
    return place.is_dir() and any(place.iterdir())


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except OSError:  # it is there and not ours
        return True
    return True


def _escaped(name: str) -> str:
    """A name in which a pattern matches nothing but itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _unescaped(field: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, letter)
    return field
