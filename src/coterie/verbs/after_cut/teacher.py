"""Which model a checkpoint was cut from: named by the user, or by the record of the cut."""

from dataclasses import dataclass

from coterie.healing.origin import HealError
from coterie.models.files.places import REFERENCE
from coterie.models.files.sources import Source
from coterie.models.loaded.load import resolve
from coterie.quantization.checkpoint import check_plain
from coterie.report.schema.record import CheckpointRecord
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.outputs.records import read_record


@dataclass(frozen=True)
class Origin:
    """A cut checkpoint with its record, where it has one, and the model it was cut from."""

    cut: Source
    full: Source
    record: CheckpointRecord | None


def origin_of(request: HealRequest | RepairRequest) -> Origin:
    """The checkpoint that is asked about, and the model it was cut from; no weight is loaded.

    Raises:
        UserError: one of them is not there, or the checkpoint is quantized.
    """
    trust = request.trust_remote_code
    cut = resolve(request.model, trust_remote_code=trust)
    check_plain(cut)
    record = read_record(cut.folder)
    # The teacher is read from the record only where no other is named.
    teacher, revision = teacher_of(request.teacher, request.revision, record, cut)
    return Origin(cut, resolve(teacher, revision, trust_remote_code=trust), record)


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
