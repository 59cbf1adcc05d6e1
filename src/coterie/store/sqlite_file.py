"""The file of a store: where it lies by default, its tables, and how it is written safely."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coterie.errors import UserError

SCHEMA = """
CREATE TABLE IF NOT EXISTS game (
    id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, description TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS observation (
    game INTEGER NOT NULL, coalition TEXT NOT NULL, sequence INTEGER NOT NULL,
    nll REAL, kl REAL, top1 REAL, seconds REAL NOT NULL,
    PRIMARY KEY (game, coalition, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (
    game INTEGER NOT NULL, name TEXT NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (game, name)) WITHOUT ROWID;
"""

FORMAT = 1
BUSY_SECONDS = 120.0

_DAMAGE = ("malformed", "not a database", "no such", "decode")
"""What SQLite's words hold where the file is not what it should be."""


def default_path() -> Path:
    """Where observations go by default: `$COTERIE_STORE`, or the user's cache folder.

    Raises:
        UserError: neither is known.
    """
    if chosen := os.environ.get("COTERIE_STORE"):
        return Path(chosen)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "coterie" / "store.sqlite"
    try:
        return Path.home() / ".cache" / "coterie" / "store.sqlite"
    except RuntimeError as error:  # a container that runs under any number
        raise UserError(
            "this user has no home folder to keep observations in: name a file with --store, or in"
            " $COTERIE_STORE"
        ) from error


def choose_journal(db: sqlite3.Connection) -> str:
    """WAL where the file system can, a rollback journal where it cannot (NFS)."""
    try:
        (journal,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
        journal = "none"
    if journal == "wal":
        return "wal"
    return db.execute("PRAGMA journal_mode=DELETE").fetchone()[0]


def damaged(path: Path, why: str) -> UserError:
    """A store that cannot be read any more, and what helps."""
    return UserError(
        f"the store {path} is damaged ({why}): name another file with --store, or put back a copy"
    )


@contextmanager
def noted_in(path: Path) -> Iterator[None]:
    """Inside this block what a store noted is made use of, which somebody may have changed.

    Raises:
        UserError: it is not what is noted under its name.
    """
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise damaged(path, "a note does not hold what its name says") from error


def explained(path: Path, error: sqlite3.Error) -> Exception:
    """An error of SQLite in words: damage, a full disk, or a file that another holds."""
    words = str(error)
    if "full" in words:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if any(sign in words for sign in _DAMAGE):
        return damaged(path, words)
    return UserError(f"cannot write to the store {path} ({error}): is another at work?")
