"""A SQLite store of observations: facts, keyed by everything they depend on.

One file holds many games, each known by its fingerprint (weights, texts, BOS, dtype, versions).
A fact is (game, coalition, sequence) → NLL, KL, top-1 agreement, seconds. Values and utilities are
derived, never stored, so a number can never answer for another model, text or metric, and a run
killed at any moment goes on by replaying what is here. Several processes may share one file.
"""

import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.errors import StudyMismatch, UserError
from coterie.foreign import is_of_machine, told
from coterie.game.coalitions import Block, Indices, Observations
from coterie.plain import Json, parsed
from coterie.store.notation import as_number, canonical, fingerprint, numbers_at
from coterie.store.sqlite_file import (
    BUSY_SECONDS,
    FORMAT,
    SCHEMA,
    choose_journal,
    damaged,
    explained,
)

log = logging.getLogger("coterie.store")

EVERY_GAME, UNKNOWN_GAME = 0, -1
"""Numbers of no single game: notes that belong to all, and a game not in a store read only."""

_QUERY_ROWS = 500


class Store:
    """An open store. Every write is one transaction; nothing written is ever changed."""

    def __init__(self, path: Path | str, *, read_only: bool = False):
        """Open or create the file.

        Args:
            read_only: Write nothing: what would be written is forgotten, and a file that is not
                there reads as an empty store.

        Raises:
            UserError: the file cannot be opened, or is not a store of this format.
        """
        self.path, self.read_only = Path(path), read_only
        try:
            self.is_new = not self.path.exists()
            self._db = self._connect()
            # 0 is a file that SQLite has just made.
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise UserError(
                    f"the store {self.path} has format {version}, this coterie reads "
                    f"format {FORMAT}: name another file with --store"
                )
            if self.is_new or not read_only:
                self._db.executescript(SCHEMA)
                self._db.execute(f"PRAGMA user_version={FORMAT}")
        except (sqlite3.Error, OSError) as error:
            if is_of_machine(error):
                raise told(error) from error
            raise UserError(
                f"cannot use {self.path} as a store ({error}): name another file with --store"
            ) from error
        state = "new" if self.is_new else "opened again"
        log.info("store %s: %s, journal %s", self.path, state, self.journal)

    def _connect(self) -> sqlite3.Connection:
        if self.read_only:
            # A file that is not there reads as an empty store in memory.
            name = ":memory:" if self.is_new else f"{self.path.resolve().as_uri()}?mode=ro"
            db = sqlite3.connect(name, BUSY_SECONDS, isolation_level=None, uri=not self.is_new)
            self.journal = "none, nothing is written"
            return db
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        self.journal = choose_journal(db)
        # With WAL a crash of the machine can lose the last blocks, never damage the file.
        db.execute("PRAGMA synchronous=NORMAL")
        return db

    def forget(self) -> None:
        """Close, and remove the file if it is new and holds no observation."""
        try:
            observed = sum(count for _, _, count in self.games())
        except UserError:  # what cannot be read is no reason to hide why the run ended
            observed = 1
        self.close()
        if self.is_new and not self.read_only and not observed:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; a store that was closed is not used again."""
        self._db.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def game(self, description: Mapping[str, Json]) -> int:
        """The number of the game so described, new or known; `UNKNOWN_GAME` if read only."""
        # Two processes may meet here: whoever is second reads the number of the first.
        key = fingerprint(description)
        if not self.read_only:
            self._ask(
                "INSERT OR IGNORE INTO game (fingerprint, description) VALUES (?, ?)",
                (key, canonical(description)),
            )
        rows = self._ask("SELECT id FROM game WHERE fingerprint = ?", (key,))
        return rows[0][0] if rows else UNKNOWN_GAME

    def games(self) -> list[tuple[int, dict[str, Json], int]]:
        """Every game here: number, description, number of observations."""
        rows = self._ask(
            "SELECT id, description, (SELECT COUNT(*) FROM observation WHERE game = id) FROM game"
        )
        found = [(number, self._read(text), count) for number, text, count in rows]
        if not all(isinstance(description, dict) for _, description, _ in found):
            raise damaged(self.path, "a game is not described")
        return found

    def forget_games(self, numbers: Sequence[int]) -> int:
        """Delete games with all their observations and notes; how many observations went.

        Args:
            numbers: Of the games.
        """
        gone = 0
        for number in numbers:
            ((count,),) = self._ask("SELECT COUNT(*) FROM observation WHERE game = ?", (number,))
            gone += count
            for table, column in (("observation", "game"), ("note", "game"), ("game", "id")):
                self._ask(f"DELETE FROM {table} WHERE {column} = ?", (number,))
        return gone

    def note(self, game: int, name: str) -> Json:
        """What was noted of a game under this name; None if nothing was."""
        rows = self._ask("SELECT content FROM note WHERE game = ? AND name = ?", (game, name))
        return self._read(rows[0][0]) if rows else None

    def write_note(self, game: int, name: str, content: Json) -> Json:
        """Note something once: the first note stands, and is what is returned.

        Args:
            game: Number of the game.
            name: Of the note.
            content: Plain data.
        """
        if self.read_only:
            known = self.note(game, name)
            return content if known is None else known
        self._ask("INSERT OR IGNORE INTO note VALUES (?, ?, ?)", (game, name, canonical(content)))
        return self.note(game, name)

    def claim_study(self, game: int, name: str, settings: Mapping[str, Json]) -> None:
        """Begin or resume the study of this name.

        Args:
            game: Number of the game.
            name: Of the study.
            settings: Everything that decides its answer.

        Raises:
            StudyMismatch: it was begun under other settings; the message names the difference.
        """
        begun = self.write_note(game, f"study:{name}", dict(settings))
        # Through JSON and back, as the stored ones went: a tuple is a list there.
        now = json.loads(canonical(settings))
        if begun != now:
            old = begun if isinstance(begun, dict) else {}
            differing = sorted(k for k in {*old, *now} if old.get(k) != now.get(k))
            told = ", ".join(f"{k} was {old.get(k)!r}, is {now.get(k)!r}" for k in differing)
            raise StudyMismatch(
                f"the study {name!r} was begun under other settings ({told}): resume it with "
                f"those, or give this one a name of its own with --study"
            )

    def add(self, game: int, coalitions: list[str], sequences: Indices, block: Block) -> None:
        """Write one finished block; ``coalitions`` and ``sequences`` are what was asked.

        Args:
            game: Number of the game.
            coalitions: What was asked, in text form.
            sequences: The texts that were asked.
            block: Its rows and columns index into these.
        """
        seen = block.observations
        # The time of a block is divided equally among its observations.
        seconds = block.seconds / max(1, seen.nll.size)
        rows = [
            (game, coalitions[row], int(sequences[column]), *numbers_at(seen, i, j), seconds)
            for i, row in enumerate(block.rows)
            for j, column in enumerate(block.columns)
        ]
        if self.read_only:
            return
        try:
            # The lock is taken at once, so that waiting happens here and not at the commit.
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO observation VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )
            self._db.execute("COMMIT")
        # Ctrl-C among others: a block is stored whole or not at all.
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise explained(self.path, error) from error
            raise
        log.debug("game %d: %d observations stored", game, len(rows))

    def _ask(self, question: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows that answer a question; the one door to the library beside `add`.

        Raises:
            UserError: the file is damaged, locked or gone.
            OSError: the disk is full.
        """
        try:
            return self._db.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error

    def _read(self, text: str) -> Any:
        try:
            return parsed(text)
        except (TypeError, ValueError) as error:
            raise damaged(self.path, "a note is no JSON") from error

    def known(
        self, game: int, coalitions: Sequence[str], sequences: Indices
    ) -> tuple[NDArray[np.bool_], Observations, NDArray[np.float64]]:
        """Which of these are known, the table of them, and the seconds each took.

        All three have shape ``(n_coalitions, n_sequences)``.

        Args:
            game: Number of the game.
            coalitions: In text form.
            sequences: Numbers of the texts.
        """
        table = Observations.empty(len(coalitions), len(sequences))
        known = np.zeros(table.nll.shape, dtype=bool)
        took = np.zeros(table.nll.shape)
        row_of = {text: row for row, text in enumerate(coalitions)}
        column_of = {int(sequence): column for column, sequence in enumerate(sequences)}
        # SQLite limits the number of parameters of one query.
        for start in range(0, len(coalitions), _QUERY_ROWS):
            part = coalitions[start : start + _QUERY_ROWS]
            marks = ",".join("?" * len(part))
            facts = self._ask(
                "SELECT coalition, sequence, nll, kl, top1, seconds FROM observation "
                f"WHERE game = ? AND coalition IN ({marks})",
                (game, *part),
            )
            for text, sequence, nll, kl, top1, seconds in facts:
                if (column := column_of.get(sequence)) is not None:
                    cell = row_of[text], column
                    known[cell] = True
                    try:
                        took[cell] = seconds
                        table.nll[cell], table.kl[cell], table.top1[cell] = map(
                            as_number, (nll, kl, top1)
                        )
                    except (TypeError, ValueError) as error:
                        raise damaged(self.path, "an observation is no number") from error
        return known, table, took

    def whole(self, game: int, n_sequences: int) -> set[str]:
        """The coalitions known on all sequences of a game, in their text form."""
        rows = self._ask(
            "SELECT coalition FROM observation WHERE game = ? GROUP BY coalition "
            "HAVING COUNT(*) = ?",
            (game, n_sequences),
        )
        return {text for (text,) in rows}
