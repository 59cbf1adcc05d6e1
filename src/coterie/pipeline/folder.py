"""Where a checkpoint is written: aside first, then renamed, so that DIR is whole or not there."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coterie.errors import UserError
from coterie.plain import Json
from coterie.report.record import Record

RECORD = "coterie.json"


def finished_record(output: Path, request: dict[str, Json]) -> Record | None:
    """The record of a run that ended here with this very request, or None."""
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(record, dict) and record.get("request") == json.loads(json.dumps(request))
    return record if same else None


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a place that is taken, before anything is computed.

    Raises:
        UserError: a file, or a folder with something in it and no leave to replace it.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output.name} is a file: name a folder")
    if output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise UserError(
                f"--output {output.name} is not empty: name another folder, or add --overwrite"
            )
        if not (output / "config.json").is_file():
            raise UserError(
                f"--output {output.name} holds no checkpoint, so --overwrite does not replace it: "
                f"name another folder"
            )
    if not _parent(output).is_dir():
        raise UserError(f"the folder {_parent(output).name!r} that --output lies in does not exist")


@contextmanager
def written_aside(output: Path) -> Iterator[Path]:
    """An empty folder beside ``output`` that takes its place if all goes well, and goes if not."""
    partial = _parent(output) / f".{output.name}.partial"
    old = _parent(output) / f".{output.name}.old"
    for leftover in (partial, old):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if output.exists():
            output.rename(old)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_record(folder: Path, record: Record) -> None:
    """Write `coterie.json`."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def _parent(output: Path) -> Path:
    return output.resolve().parent
