"""The file of a store: where it lies by default, its tables, and how it is written safely."""

import os
import sqlite3
from pathlib import Path

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


def default_path() -> Path:
    """Where observations go by default: `$COTERIE_STORE`, or the user's cache folder."""
    if chosen := os.environ.get("COTERIE_STORE"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "coterie" / "store.sqlite"


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
