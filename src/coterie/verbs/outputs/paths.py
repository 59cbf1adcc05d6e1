"""Where things lie on this machine: noted in the store, never in a record or a card."""

import json
import logging
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from coterie.errors import UserError
from coterie.foreign import expanded
from coterie.plain import Json
from coterie.report.schema.record import CheckpointRecord
from coterie.store.observations import Store
from coterie.store.sqlite_file import default_path

log = logging.getLogger(__name__)

KIND = "paths"
"""What the description of such a note is called among those of games."""


def remember_paths(
    record: CheckpointRecord,
    output: Path,
    named: Mapping[str, str | None],
    store: Path | str | None,
) -> None:
    """Note where a run found its model and texts, for the commands that come after it.

    Args:
        record: Of the finished run.
        output: Folder of the checkpoint.
        named: What was asked for under ``model``, ``calibration`` and ``held_out``.
        store: SQLite file of observations; None is the user's.
    """
    here = {name: absolute(value) for name, value in named.items() if value is not None}
    note: dict[str, Json] = {
        "kind": KIND,
        "of": _digest(record),
        "output": str(output.resolve()),
        "paths": {name: value for name, value in here.items() if value is not None},
    }
    try:
        with Store(default_path() if store is None else store) as book:
            book.game(note)
    except UserError as error:  # the checkpoint is whole without it
        log.info("paths are not remembered: %s", error)


def recalled(record: CheckpointRecord, store: Path | str | None) -> dict[str, str]:
    """Where the run that made a checkpoint found its model and texts, as far as they are noted.

    Args:
        record: The record beside the checkpoint.
        store: SQLite file of observations; None is the user's.
    """
    of, found = _digest(record), dict[str, str]()
    for note in noted_runs(store):
        paths = note.get("paths")
        if note.get("of") == of and isinstance(paths, dict):
            # A later run may have found them elsewhere: the last that is still there counts.
            found |= {str(name): str(path) for name, path in paths.items()}
    return found


def noted_runs(store: Path | str | None) -> list[dict[str, Json]]:
    """Every note of paths that a store holds, the oldest first."""
    try:
        with Store(default_path() if store is None else store, read_only=True) as book:
            return [told for _, told, _ in book.games() if told.get("kind") == KIND]
    except UserError:
        return []


def absolute(spec: str) -> str | None:
    """A text spec or model with every path of this machine made absolute; None if it has none.

    >>> absolute("owner/name") is None
    True
    """
    parts = []
    for part in spec.split(","):
        name, equals, weight = part.rpartition("=") if "=" in part else (part, "", "")
        path = expanded(name)
        parts.append(f"{path.resolve()}{equals}{weight}" if path.exists() else part)
    whole = ",".join(parts)
    return None if whole == spec and not Path(spec).is_absolute() else whole


def _digest(record: CheckpointRecord) -> str:
    """What names the run that made the cut, whatever was done to the checkpoint since."""
    identity: Json = record.identity
    while isinstance(identity, dict) and "before" in identity:
        identity = identity["before"]
    known = dict(identity) if isinstance(identity, dict) else {}
    known.pop("composed", None)
    return sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
