"""`report`: records as one HTML page; what a run wrote itself, again or side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coterie.errors import UserError
from coterie.plain import Json, parsed
from coterie.report.page.build import PageEntry, Shown, page
from coterie.report.schema.bench import SpeedReport
from coterie.report.schema.compare import Comparison
from coterie.report.schema.evaluate import Judgement
from coterie.report.schema.part import Part
from coterie.verbs.outputs.output_file import OutputFile
from coterie.verbs.outputs.reads import Read
from coterie.verbs.outputs.records import RECORD, read_record_file
from coterie.verbs.report_request import ReportRequest
from coterie.verbs.shared.entry import public

NAMES = (RECORD, "comparison.json")
"""Records that runs leave in their folders."""

_REPORTS: dict[str, type[Part]] = {
    "compare": Comparison,
    "bench": SpeedReport,
    "evaluate": Judgement,
}
"""Reports that make no checkpoint, by their kind."""


@dataclass(frozen=True)
class PageWritten:
    """What a page holds.

    Attributes:
        output: Name of the file.
        runs: What is shown, in order.
        n_bytes: Size of the file.
    """

    output: str
    runs: tuple[str, ...]
    n_bytes: int

    def as_json(self) -> dict[str, Json]:
        """The same as plain JSON."""
        return {"output": self.output, "runs": self.runs, "bytes": self.n_bytes}


@public
def report(request: ReportRequest, *, output: Path | str) -> PageWritten:
    """Show the records of runs on one HTML page that needs no network.

    Args:
        request: Which runs.
        output: File of the page.

    Raises:
        UserError: a folder holds no record, or the file cannot be written.
    """
    request.check()
    files = [_file(Path(run)) for run in request.runs]
    # The page may lie beside a record, but not take its place.
    place = OutputFile(Path(output), "--output", [Read(file.name, file) for file in files])
    place.check()
    entries = [PageEntry(_name(file), _read(file)) for file in files]
    text = page(entries)
    place.write(text)
    return PageWritten(place.path.name, tuple(one.name for one in entries), len(text.encode()))


def _file(run: Path) -> Path:
    """The record that is meant by a folder or a file."""
    if run.is_file():
        return run
    found = next(_there(run), None)
    if found is None:
        raise UserError(
            f"'{run.name}' holds neither {NAMES[0]} nor {NAMES[1]}: name a folder that a run wrote,"
            " or a report that was printed with --json"
        )
    return found


def _there(folder: Path) -> Iterator[Path]:
    return (folder / name for name in NAMES if (folder / name).is_file())


def _name(file: Path) -> str:
    """What the page calls a run: its folder, or the file that it was printed to."""
    return file.resolve().parent.name if file.name in NAMES else file.stem


def _read(file: Path) -> Shown:
    try:
        content = parsed(file.read_text(encoding="utf-8"))
        kind = _REPORTS.get(content["kind"])
        found = read_record_file(file) if kind is None else kind.from_json(content)
    except (OSError, ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, Shown):
        raise UserError(f"{file.name} in '{_name(file)}' is no record of a run: name another")
    return found
