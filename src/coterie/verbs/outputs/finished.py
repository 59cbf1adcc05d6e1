"""The run that ended in a folder: reported again, or refused, before another one begins there.

Every verb that writes a folder does the same: it looks at the folder before anything is read, so
that a mistake is told at once; it compares itself with the run that ended there as soon as it knows
all that decides its outcome; and it checks the folder again before the work, now that the folder of
the model is known too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from coterie.plain import Json
from coterie.report.schema.record import CheckpointRecord
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.records import as_read, read_record
from coterie.verbs.shared.progress import Progress

Report = TypeVar("Report")
Kind = TypeVar("Kind", bound=CheckpointRecord)

# What a verb brings: how it recognises its own finished run.
Ended = Callable[[Path], tuple[Report, Json] | None]
"""Reads a folder: the report of the run that ended there and what decided its outcome, or None."""


class FinishedRun(Generic[Report]):
    """The run that ended in a folder, if one did, beside the one that is to begin.

    Args:
        place: The folder, and all that the run reads.
        ended: Reads the report that a run of this verb leaves, and its identity.

    Raises:
        UserError: no run of this verb ended there, and the folder cannot be used.
    """

    def __init__(self, place: OutputFolder, *, ended: Ended[Report]) -> None:
        self._place = place
        # With --overwrite nothing is recognised: the user wants it done again.
        self._there = None if place.overwrite else ended(place.path)
        if self._there is None:
            place.check()

    def same(
        self, identity: Mapping[str, Json], progress: Progress, *, source: Path | None = None
    ) -> Report | None:
        """The report of the run that ended there, if it was this very one.

        Args:
            identity: All that decides the outcome of the run that is to begin.
            progress: Told where the run is reported again.
            source: Folder of the model that is read; it is never replaced.

        Raises:
            UserError: it was not this one, and the folder cannot be used.
        """
        if self._there is not None and same_outcome(self._there[1], identity):
            progress.say(f"{self._place.path.name} holds the finished run of this very request")
            return self._there[0]
        # Now with the model's folder known: output must not be that.
        self._place.add(source)
        self._place.check()
        # What cannot be put in place is so known now, not when the work is done.
        with self._place.rehearsed():
            pass
        return None


def same_outcome(before: Json, now: Mapping[str, Json]) -> bool:
    """Whether a finished run and one that is to begin would have the same outcome.

    The type of the device decides, not its number or how many there are. Older records hold
    ``--device`` as it was typed: ``auto`` may have been any, and ``cuda:0,cuda:1`` was ``cuda``.

    Args:
        before: Identity of the finished run, as it was read from its record.
        now: Identity of the other, with the device's type.
    """
    if not isinstance(before, Mapping):
        return False
    # As it would come back from a file: tuples are lists there.
    new = as_read(now)
    device = str(before.get("device", "auto")).partition(":")[0]
    # An old "auto" may have been any device, so it forbids none.
    if device not in ("auto", new.get("device", "auto")):
        return False
    # The device was compared above, by its type.
    return {**before, "device": None} == {**new, "device": None}


def ended_as(kind: type[Kind]) -> Ended[Kind]:
    """Reads the record of a run that made a checkpoint, and its identity.

    Args:
        kind: What the verb's records are.
    """

    def ended(folder: Path) -> tuple[Kind, Json] | None:
        record = read_record(folder)
        return (record, record.identity) if isinstance(record, kind) else None

    return ended
