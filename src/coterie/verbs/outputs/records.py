"""The record that a run leaves in its folder: `coterie.json`, written and read."""

import json
from collections.abc import Mapping
from pathlib import Path

from coterie.plain import Json, parsed
from coterie.report.schema.record import CheckpointRecord, CutRecord, Record
from coterie.report.schema.sparsify import SparsityRecord

RECORD = "coterie.json"


_RECORDS: dict[str, type[CheckpointRecord]] = {
    "prune": Record,
    "sparsify": SparsityRecord,
    "cut": CutRecord,
}


def read_record(output: Path) -> CheckpointRecord | None:
    """The record of a run that ended in this folder, as its command writes it, or None."""
    return read_record_file(output / RECORD)


def read_record_file(file: Path) -> CheckpointRecord | None:
    """The record that a file holds, or None."""
    try:
        content = parsed(file.read_text(encoding="utf-8"))
        return _RECORDS.get(content["kind"], CheckpointRecord).from_json(content)
    except (OSError, ValueError, TypeError, KeyError):  # none, or none of ours
        return None


def as_read(content: Mapping[str, Json]) -> Mapping[str, Json]:
    """Plain data as it comes back from a file, to be compared with one."""
    # Through JSON and back: keys become strings, tuples become lists.
    return json.loads(json.dumps(content))


def write_record(folder: Path, record: CheckpointRecord) -> None:
    """Write `coterie.json`."""
    text = json.dumps(record.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")
