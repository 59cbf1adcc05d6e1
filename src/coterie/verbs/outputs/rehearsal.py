"""The end of a run before its beginning: what cannot be written is said within seconds.

What a run would meet only when it writes (a disk without room, a file beside the weights that may
not be read, a record that JSON cannot hold, a rename that is refused) is met by an empty version of
its end, before the first weight is loaded.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from coterie.errors import MachineError
from coterie.models.cutting.write import carry
from coterie.models.files.sources import Source
from coterie.models.files.weights import INDEX
from coterie.plain import Json
from coterie.report.words import size
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.records import RECORD


def weights_take(source: Source, share: float = 1.0) -> int:
    """Bytes that a checkpoint takes which has about this share of a model's weights.

    Args:
        source: The model.
        share: Of its bytes; what is certain to be written, not what may be.
    """
    return int(share * sum(entry.n_bytes for entry in source.entries))


def check_room_on_disk(place: OutputFolder, needed: int) -> None:
    """Refuse a disk that has no room for what will be written.

    Args:
        place: Where it goes.
        needed: Bytes.

    Raises:
        MachineError: says how much is needed and how much is free.
    """
    free = shutil.disk_usage(place.place.parent).free
    if needed > free:
        raise MachineError(
            f"the checkpoint takes about {size(needed)} and the disk of --output {place.path} has"
            f" {size(free)} free: make room, or name a folder on another disk"
        )


@contextmanager
def rehearsed(
    place: OutputFolder, source: Source, identity: Mapping[str, Json], *, needed: int
) -> Iterator[Path]:
    """A folder with all that stands beside the weights, which is put in a place and removed.

    Args:
        place: Where the run ends.
        source: The checkpoint whose tokenizer, templates and licences are carried along.
        identity: What the record will hold.
        needed: Bytes that the weights will take.

    Raises:
        CoterieError: whatever the end of the run would meet, but for what lies in the weights.
    """
    check_room_on_disk(place, needed)
    with place.rehearsed() as folder:
        # First, for the Python of a model is read when its config is.
        carry(source.folder, folder)
        yield folder
        (folder / INDEX).write_text("{}", encoding="utf-8")
        (folder / RECORD).write_text(json.dumps(identity, allow_nan=False), encoding="utf-8")


def rehearse(
    place: OutputFolder, source: Source, identity: Mapping[str, Json], *, needed: int
) -> None:
    """As `rehearsed`, for a run that keeps the config of what it reads."""
    with rehearsed(place, source, identity, needed=needed):
        pass
