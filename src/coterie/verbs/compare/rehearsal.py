"""The end of a comparison before its beginning: its files, with nothing played yet."""

from coterie.report.schema.compare import Comparison
from coterie.verbs.compare.cells import CALIBRATION, Where
from coterie.verbs.compare.output import write_files
from coterie.verbs.compare.record import Asked
from coterie.verbs.compare.rows import empty_row
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.provenance import versions

_NOT_YET = "not played yet"


def rehearse_comparison(place: OutputFolder | None, asked: Asked) -> None:
    """Write a comparison of no answers, put it in a place and remove it.

    Args:
        place: Where the run ends; None where nothing is written.
        asked: What is compared, and on what.

    Raises:
        UserError: a file of it cannot be written there, or the folder not be renamed.
        MachineError: the disk is full.
    """
    if place is None:
        return
    with place.rehearsed() as folder:
        write_files(_empty(asked), folder)


def _empty(asked: Asked) -> Comparison:
    """A comparison in which every method has a row, and none an answer."""
    request, prepared = asked.request, asked.prepared
    source, second = prepared.source, prepared.second
    return Comparison(
        kind="compare",
        command=request.command(),
        identity=dict(asked.identity),
        model=source.name,
        fingerprint=source.fingerprint(),
        architecture=(source.config().architectures or ["unknown"])[0],
        layers=0,
        locked=[],
        dtype=name_of(prepared.dtype),
        device=str(prepared.device),
        calibration=text_part(prepared.calibration),
        second=None if second is None else text_part(second),
        held_out=[text_part(text) for name, text in asked.texts.items() if name != CALIBRATION],
        tasks=list(request.tasks),
        full=empty_row(Where("full", 0, 0), _NOT_YET),
        rows=[
            empty_row(Where(name, removed, 0), _NOT_YET)
            for removed in request.removals
            for name in request.rows
        ],
        cells=[],
        remarks=[],
        versions=versions(),
        machine={},
    )
