"""A SQLite store of observations: facts, keyed by everything they depend on.

One file holds many games, each known by its fingerprint (weights, texts, BOS, dtype, versions).
A fact is (game, coalition, sequence) → NLL, KL, top-1 agreement, seconds. Values and utilities are
derived, never stored, so a number can never answer for another model, text or metric, and a run
killed at any moment goes on by replaying what is here. Several processes may share one file.
"""

import hashlib
import json
import math
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coterie.errors import StudyMismatch, UserError
from coterie.game.coalitions import Block, Coalitions, Game, Indices, Observations, to_text
from coterie.plain import Json

_SCHEMA = """
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
EVERY_GAME = 0
"""The number under which notes are kept that belong to no single game."""

_FORMAT = 1
_BUSY_SECONDS = 120.0
_QUERY_ROWS = 500


def default_path() -> Path:
    """Where observations go unless told otherwise: `$COTERIE_STORE`, or the user's cache folder."""
    if chosen := os.environ.get("COTERIE_STORE"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "coterie" / "store.sqlite"


def fingerprint(description: Mapping[str, Json]) -> str:
    """SHA-256 of a game's description in canonical JSON."""
    return hashlib.sha256(_canonical(description).encode()).hexdigest()


class Store:
    """An open store. Every write is one transaction; nothing written is ever changed."""

    def __init__(self, path: Path | str):
        """Open or create the file.

        Raises:
            UserError: the file cannot be opened, or is not a store of this format.
        """
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            self.journal = _choose_journal(self._db)
            self._db.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _FORMAT):
                raise UserError(
                    f"the store {self.path.name} has format {version}, this coterie reads "
                    f"format {_FORMAT}: name another file with --store"
                )
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_FORMAT}")
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"cannot use {self.path.name} as a store ({error}): name another file with --store"
            ) from error

    def close(self) -> None:
        """Close the file; a store that was closed is not used again."""
        self._db.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def game(self, description: Mapping[str, Json]) -> int:
        """The number of the game so described, new or known."""
        key = fingerprint(description)
        self._db.execute(
            "INSERT OR IGNORE INTO game (fingerprint, description) VALUES (?, ?)",
            (key, _canonical(description)),
        )
        return self._db.execute("SELECT id FROM game WHERE fingerprint = ?", (key,)).fetchone()[0]

    def games(self) -> list[tuple[int, dict[str, Json], int]]:
        """Every game here: number, description, number of observations."""
        rows = self._db.execute(
            "SELECT id, description, (SELECT COUNT(*) FROM observation WHERE game = id) FROM game"
        )
        return [(number, json.loads(text), count) for number, text, count in rows]

    def note(self, game: int, name: str) -> Json:
        """What was noted of a game under this name; None if nothing was."""
        row = self._db.execute(
            "SELECT content FROM note WHERE game = ? AND name = ?", (game, name)
        ).fetchone()
        return json.loads(row[0]) if row else None

    def write_note(self, game: int, name: str, content: Json) -> Json:
        """Note something once: the first note stands, and is what is returned."""
        self._db.execute(
            "INSERT OR IGNORE INTO note VALUES (?, ?, ?)", (game, name, _canonical(content))
        )
        return self.note(game, name)

    def claim_study(self, game: int, name: str, settings: Mapping[str, Json]) -> None:
        """Begin or resume the study of this name.

        Raises:
            StudyMismatch: it was begun under other settings; the message names the difference.
        """
        begun = self.write_note(game, f"study:{name}", dict(settings))
        now = json.loads(_canonical(settings))
        if begun != now and isinstance(begun, dict):
            differing = sorted(k for k in {*begun, *now} if begun.get(k) != now.get(k))
            told = ", ".join(f"{k} was {begun.get(k)!r}, is {now.get(k)!r}" for k in differing)
            raise StudyMismatch(
                f"the study {name!r} was begun under other settings ({told}): resume it with "
                f"those, or give this one a name of its own with --study"
            )

    def add(self, game: int, coalitions: list[str], sequences: Indices, block: Block) -> None:
        """Write one finished block; ``coalitions`` and ``sequences`` are what was asked."""
        seen = block.observations
        seconds = block.seconds / max(1, seen.nll.size)
        rows = [
            (game, coalitions[row], int(sequences[column]), *_numbers(seen, i, j), seconds)
            for i, row in enumerate(block.rows)
            for j, column in enumerate(block.columns)
        ]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(
                "INSERT OR IGNORE INTO observation VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def known(
        self, game: int, coalitions: list[str], sequences: Indices
    ) -> tuple[NDArray[np.bool_], Observations]:
        """Which of these are known, ``(n_coalitions, n_sequences)``, and the table of them."""
        table = Observations.empty(len(coalitions), len(sequences))
        known = np.zeros(table.nll.shape, dtype=bool)
        row_of = {text: row for row, text in enumerate(coalitions)}
        column_of = {int(sequence): column for column, sequence in enumerate(sequences)}
        for start in range(0, len(coalitions), _QUERY_ROWS):
            part = coalitions[start : start + _QUERY_ROWS]
            marks = ",".join("?" * len(part))
            facts = self._db.execute(
                "SELECT coalition, sequence, nll, kl, top1 FROM observation "
                f"WHERE game = ? AND coalition IN ({marks})",
                (game, *part),
            )
            for text, sequence, nll, kl, top1 in facts:
                if (column := column_of.get(sequence)) is not None:
                    cell = row_of[text], column
                    known[cell] = True
                    table.nll[cell], table.kl[cell], table.top1[cell] = map(_read, (nll, kl, top1))
        return known, table


@dataclass(frozen=True)
class Notes:
    """The notes of one game: each name is written once and then stands."""

    store: Store
    game: int

    def read(self, name: str) -> Json:
        """What was noted under this name; None if nothing was."""
        return self.store.note(self.game, name)

    def write(self, name: str, content: Json) -> Json:
        """Note this, unless something is noted already; returns what stands."""
        return self.store.write_note(self.game, name, content)


class Remembered:
    """A game that asks its store first, and its inner game only for what the store lacks."""

    def __init__(self, game: Game, store: Store, number: int):
        self.inner, self.store, self.number = game, store, number
        self.hits = 0
        """Observations (coalition × sequence) answered from the store."""

    @property
    def n_players(self) -> int:
        """Number of players of the inner game."""
        return self.inner.n_players

    @property
    def n_sequences(self) -> int:
        """Number of texts of the inner game."""
        return self.inner.n_sequences

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Yield what is known, then what is new, each new block stored before it is passed on."""
        texts = [to_text(coalition) for coalition in coalitions]
        known, table = self.store.known(self.number, texts, sequences)
        self.hits += int(known.sum())
        for rows, columns in _rectangles(known):
            corner = np.ix_(rows, columns)
            seen = Observations(table.nll[corner], table.kl[corner], table.top1[corner])
            yield Block(rows, columns, seen)
        for rows, columns in _rectangles(~known):
            asked = [texts[row] for row in rows]
            for block in self.inner.observe(coalitions[rows], sequences[columns]):
                self.store.add(self.number, asked, sequences[columns], block)
                yield Block(
                    rows[block.rows], columns[block.columns], block.observations, block.seconds
                )


def _rectangles(wanted: NDArray[np.bool_]) -> Iterator[tuple[Indices, Indices]]:
    """Tile the True cells by rectangles: rows that want the same columns go together."""
    patterns: dict[bytes, list[int]] = defaultdict(list)
    for row, columns in enumerate(wanted):
        patterns[columns.tobytes()].append(row)
    for rows in patterns.values():
        columns = np.flatnonzero(wanted[rows[0]])
        if len(columns):
            yield np.array(rows), columns


def _choose_journal(db: sqlite3.Connection) -> str:
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


def _canonical(content: Json | Mapping[str, Json]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _numbers(seen: Observations, i: int, j: int) -> tuple[float | None, ...]:
    # SQLite has infinities but no NaN: a NaN is written as NULL and read back as NaN.
    cell = (float(seen.nll[i, j]), float(seen.kl[i, j]), float(seen.top1[i, j]))
    return tuple(None if math.isnan(number) else number for number in cell)


def _read(number: float | None) -> float:
    return math.nan if number is None else number
