"""What a command after the cut leaves open, filled in from the record and from noted paths."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from coterie.errors import UserError
from coterie.foreign import expanded
from coterie.models.files.places import REFERENCE
from coterie.plain import Json
from coterie.report.schema.record import CheckpointRecord
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.outputs.paths import recalled
from coterie.verbs.outputs.records import read_record

Asked = TypeVar("Asked", HealRequest, RepairRequest, QuantizeRequest)


def completed(request: Asked, store: Path | str | None) -> Asked:
    """The request with the model and the texts of the run that made the checkpoint.

    Args:
        request: What is asked; whatever it names itself stays.
        store: SQLite file in which paths are noted; None is the user's.

    Raises:
        UserError: something lay on this machine and is no longer known where: all of it in one
            line.
    """
    record = read_record(expanded(request.model))
    if record is None or record.request is None:
        return request
    known, missing = recalled(record, store), list[str]()
    if isinstance(request, HealRequest | RepairRequest):
        request = replace(request, teacher=_teacher(request.teacher, record, known, missing))
    if request.calibration is None and request.held_out is None:
        calibration, held_out = (
            _text(name, record.request.get(name), known, missing)
            for name in ("calibration", "held_out")
        )
        request = replace(request, calibration=calibration, held_out=held_out)
    if missing:
        raise UserError(
            f"{Path(request.model).name!r} was made of what lay on this machine, and it is not"
            f" known where that is now: add {' and '.join(missing)}"
        )
    if isinstance(request, QuantizeRequest) or request.text is not None:
        return request
    # What chose the layers also teaches: other documents of it judge.
    source = request.calibration
    return request if source in (None, "stdlib") else replace(request, text=source)


def _teacher(
    asked: str | None, record: CheckpointRecord, known: dict[str, str], missing: list[str]
) -> str | None:
    model = record.model
    if asked is not None or model is None or model.hub_id or model.name == REFERENCE:
        return asked
    found = known.get("model")
    if found is not None and Path(found).exists():
        return found
    missing.append(f"--teacher DIR (the model {model.name!r})")
    return None


def _text(name: str, asked: Json, known: dict[str, str], missing: list[str]) -> str | None:
    """A text of the run: where it was noted, or its name where it needs no place."""
    if not isinstance(asked, str):
        return None
    found = known.get(name)
    parts = [part.rpartition("=")[0] or part for part in (found or asked).split(",")]
    if found is not None and all(Path(part).exists() or "/" not in part for part in parts):
        return found
    # A name of the Hub, a part of the package, or a file that lies here under that name.
    if all("/" in part or "." not in part or Path(part).exists() for part in parts):
        return None
    missing.append(f"--{name.replace('_', '-')} FILE (the text {asked!r})")
    return None
