"""Which model a checkpoint was cut from: named by the user, or by the record of the cut."""

from coterie.healing.origin import HealError
from coterie.models.files.sources import REFERENCE, Source
from coterie.report.schema.record import CheckpointRecord


def teacher_of(
    teacher: str | None, revision: str | None, record: CheckpointRecord | None, cut: Source
) -> tuple[str, str | None]:
    """Name and revision of the model a checkpoint was cut from.

    Args:
        teacher: What the user named, if anything.
        revision: Its branch, tag or commit.
        record: The `coterie.json` of the checkpoint, if it has one.
        cut: The checkpoint.

    Raises:
        HealError: nobody has named it.
    """
    if teacher is not None:
        return teacher, revision
    if record is not None and record.model is not None:
        named = record.model
        if named.hub_id is not None:
            return named.hub_id, named.revision
        if named.name == REFERENCE:
            return REFERENCE, None
        raise HealError(
            f"{cut.name!r} was cut from a local folder {named.name!r}: say where it is with"
            " --teacher DIR"
        )
    raise HealError(f"{cut.name!r} does not say what it was cut from: name it with --teacher MODEL")
