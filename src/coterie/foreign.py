"""Where code of other libraries runs: whatever it raises becomes one line of ours.

A library raises what it likes, and other versions of it raise other things; so no list of types is
kept. Where a mistake in a file or a text can make it raise, its code runs inside `foreign`, which
says what was being done and what helps. What still escapes is told by `told` at the two gates that
every run passes: the verbs of the package, and the command line.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from coterie.errors import CoterieError, FaultError, MachineError, UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OURS = Path(__file__).parent.name


@contextmanager
def foreign(
    doing: str, *, way_out: str, kind: type[CoterieError] = UserError, library: str = ""
) -> Iterator[None]:
    """Inside this block another library works; whatever it raises becomes an error of ours.

    >>> with foreign("'a.jsonl', line 3 does not render", way_out="change that row"):
    ...     raise KeyError("role")
    Traceback (most recent call last):
    coterie.errors.UserError: 'a.jsonl', line 3 does not render (KeyError: role): change that row

    Args:
        doing: What failed, with its file: the beginning of the message.
        way_out: What helps: the end of the message.
        kind: The error that is raised.
        library: Who raised it, where that says more.

    Raises:
        CoterieError: of the kind, with the reason that the library gave.
        MachineError: memory or the disk is at its end, which no file is to blame for.
    """
    try:
        yield
    except CoterieError:
        raise
    except BaseException as error:
        if not _is_told(error):
            raise
        if is_of_machine(error):
            raise told(error) from error
        by = f"{library}: " if library else ""
        raise kind(f"{doing} ({by}{reason(error)}): {way_out}") from error


@contextmanager
def cache_of_code(folder: Path) -> Iterator[None]:
    """Inside this block transformers may copy Python files of a model to its cache.

    Args:
        folder: Of the model: what fails there is no matter of the cache.

    Raises:
        UserError: the cache cannot be written; says where it is and how to move it.
    """
    try:
        yield
    except OSError as error:
        # Of its own refusals transformers makes OSErrors too, without a file.
        if error.filename is None or folder in Path(str(error.filename)).parents:
            raise
        raise UserError(
            f"transformers keeps Python files of models in its cache, and {error.filename} there"
            f" cannot be used ({error.strerror}): set HF_HOME to a folder that can be written"
        ) from error


def expanded(path: Path | str) -> Path:
    """A path with `~` and `~user` as the folders they stand for.

    Raises:
        UserError: there is no such user, or nobody knows a home folder for this one.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{path} begins with a home folder that is not known here: write the whole path"
        ) from error


def check_name(path: Path | str) -> None:
    """Refuse a path whose bytes are no text: neither libraries nor records can hold it.

    Raises:
        UserError: names it, as far as it can be shown.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{str(path)[:80]!r} is not UTF-8, and no report can hold such a name: rename it"
        ) from error


def is_there(path: Path | str) -> bool:
    """Whether there is a file or folder at a path.

    Raises:
        UserError: it may not be looked at, is too long for a path, or its name is no text.
    """
    check_name(path)
    try:
        return Path(path).exists()
    except OSError as error:
        shown = str(path) if len(str(path)) < 80 else f"{str(path)[:60]}…"
        raise UserError(f"{shown} cannot be looked at ({error.strerror}): name another") from error


def reason(error: BaseException) -> str:
    """Why a library refused, in one line: its own words, with their kind where they say little.

    >>> reason(KeyError("role")), reason(ValueError("no such split\\nsee above"))
    ('KeyError: role', 'no such split')
    >>> reason(ValueError("Validation error for field 'depth':\\n    expected int, got str"))
    "Validation error for field 'depth': expected int, got str"
    """
    words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    # A line that ends in a colon says where; the next one says what.
    whole = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    first = whole.rstrip(".:")
    # A key or a single word is no reason by itself.
    if isinstance(error, LookupError) or " " not in first:
        return f"{type(error).__name__}: {first}" if first else type(error).__name__
    return first


def is_of_machine(error: BaseException) -> bool:
    """Whether memory or the disk is at its end: nothing that was asked is wrong in itself."""
    return _is_of_disk(error) or _is_of_memory(error)


def told(error: BaseException) -> CoterieError:
    """Any error as one of ours: what happened, to whom, and what helps.

    Args:
        error: Whatever was raised; one of ours comes back as it is.
    """
    if isinstance(error, CoterieError):
        return error
    if isinstance(error, BrokenPipeError):
        return MachineError(
            "whoever read what is printed has closed it (Broken pipe): all that was written or"
            " observed is kept"
        )
    if _is_of_disk(error):
        why = getattr(error, "strerror", None) or reason(error)
        return MachineError(f"the disk is full ({why}): nothing half-written was left")
    if _is_of_memory(error):
        return MachineError(
            f"memory ran out ({reason(error)}): --stream reads a model layer by layer,"
            " --state-memory bounds the rest, --dtype bfloat16 halves the weights"
        )
    if isinstance(error, OSError):
        name = Path(str(error.filename)).name if error.filename is not None else ""
        where = f"{name}: " if name else ""
        return MachineError(
            f"{where}{error.strerror or reason(error)} ({type(error).__name__}): is it there, and"
            " may it be read and written?"
        )
    if isinstance(error, sqlite3.Error):
        return MachineError(
            f"the store cannot be used ({reason(error)}): name another file with --store"
        )
    who = _raised_by(error)
    return FaultError(
        f"{who} failed where that was not foreseen ({type(error).__name__}: {reason(error)});"
        " nothing half-written was left: --verbose shows where, and a report of it helps"
    )


def _is_of_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    # Libraries in Rust and C++ put the system's words into an error of their own.
    words = str(error)
    return any(os.strerror(number) in words for number in _FULL) or "writing file" in words


def _is_of_memory(error: BaseException) -> bool:
    # Of torch by its name: this module is read where torch is not.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in words or "can't allocate memory" in words
    )


def _is_told(error: BaseException) -> bool:
    # A panic of a library in Rust is no Exception, and no wish of the user's either.
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _raised_by(error: BaseException) -> str:
    """The library in whose code an error came up."""
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in walk_tb(error.__traceback__)]
    last = names[-1].partition(".")[0] if names else ""
    return last if last not in ("", "__main__") else _OURS
