"""Where a checkpoint is written: aside first, then renamed, so that DIR is whole or not there."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from coterie.errors import UserError
from coterie.plain import Json
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
    try:
        content = json.loads((output / RECORD).read_text(encoding="utf-8"))
        return _RECORDS.get(content["kind"], CheckpointRecord).from_json(content)
    except (OSError, ValueError, TypeError, KeyError):  # none, or none of ours
        return None


def as_read(content: Mapping[str, Json]) -> Mapping[str, Json]:
    """Plain data as it comes back from a file, to be compared with one."""
    # Through JSON and back: keys become strings, tuples become lists.
    return json.loads(json.dumps(content))


def check_output(output: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Refuse a place that is taken or cannot be written, before anything is computed.

    Args:
        output: Folder for the checkpoint.
        overwrite: A checkpoint that is there may be replaced.
        source: Folder of the model that is read; it is never replaced.

    Raises:
        UserError: one clear line; nothing was changed.
    """
    place = output.resolve()
    # Replacing the current folder would pull the ground away from the shell.
    if place == Path.cwd() or place in Path.cwd().parents:
        raise UserError(f"--output {output} is the folder you are in: name a new one")
    if source is not None:
        read = source.resolve()
        if place == read or place in read.parents or read in place.parents:
            raise UserError(f"--output {output} overlaps the folder of the model: name another")
    if place.exists() and not place.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    # Only what looks like a checkpoint is ever replaced, even with --overwrite.
    if place.is_dir() and any(place.iterdir()):
        if not overwrite:
            raise UserError(
                f"--output {output} is not empty: name another folder, or add --overwrite"
            )
        if not (place / "config.json").is_file():
            raise UserError(
                f"--output {output} holds no checkpoint, so --overwrite does not replace it: "
                "name another folder"
            )
    if not place.parent.is_dir():
        raise UserError(f"the folder that --output {output} lies in does not exist: make it first")
    # Tried rather than asked: permissions, quotas and read-only disks all show here.
    try:
        _aside(place, "probe").mkdir()
        _aside(place, "probe").rmdir()
    except OSError as error:
        raise UserError(
            f"--output {output} cannot be written ({error.strerror}): name another folder"
        ) from error


@contextmanager
def written_aside(output: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """An empty folder beside ``output`` that takes its place if all goes well, and goes if not.

    What was there before is put back if the exchange fails, and a run that was killed in the middle
    of an exchange is mended by the next one.

    Raises:
        UserError: another run has finished here meanwhile, and nothing may be replaced.
    """
    place = output.resolve()
    partial, old = _aside(place, f"partial-{os.getpid()}"), _aside(place, "old")
    # An earlier run may have been killed between the two renames.
    _mend(place, old)
    partial.mkdir()
    try:
        yield partial
        if not overwrite and place.is_dir() and any(place.iterdir()):
            raise UserError(
                f"--output {output} was filled by another run while this one was working: name"
                " another folder"
            )
        _exchange(place, partial, old)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_record(folder: Path, record: CheckpointRecord) -> None:
    """Write `coterie.json`."""
    text = json.dumps(record.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


# Two renames: at no moment is a half-written folder in the place.
def _exchange(place: Path, new: Path, old: Path) -> None:
    if not place.exists():
        new.rename(place)
        return
    place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _mend(place: Path, old: Path) -> None:
    """Clear up after runs that were killed; what an exchange had put away comes back."""
    if old.exists() and not place.exists():
        old.rename(place)
    shutil.rmtree(old, ignore_errors=True)
    # Folders of runs that still live are left to them.
    for partial in place.parent.glob(f".{place.name}.partial-*"):
        if not _alive(partial.name.rpartition("-")[2]):
            shutil.rmtree(partial, ignore_errors=True)


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:  # it is there and not ours
        return True
    return True


def _aside(place: Path, what: str) -> Path:
    return place.parent / f".{place.name}.{what}"
