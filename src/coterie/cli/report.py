"""`coterie report DIR… --output page.html`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coterie.cli.show import show
from coterie.verbs.options.declare import Option
from coterie.verbs.options.run import Report
from coterie.verbs.report_request import ReportRequest

if TYPE_CHECKING:
    from coterie.verbs.report import PageWritten


@dataclass(frozen=True, kw_only=True)
class ReportRun(Report):
    """Where the page is written."""

    output: Annotated[Path, Option("--output", "FILE", "File of the page.", short="-o")]


def command(request: ReportRequest, run: ReportRun) -> None:
    """Show runs on one HTML page: what was cut, what it costs, and what else could be cut.

    Every run that writes a folder leaves such a page there (report.html); this makes it again, of
    older runs too, and sets several side by side. The file needs no network. Beside the full model
    quantized (`coterie quantize MODEL`) it shows whether a cut is better than fewer bits.

    Examples: coterie report out -o page.html;
    coterie report small healed comparison -o all.html
    """
    from coterie.verbs.report import report

    show(lambda _: report(request, output=run.output), _print, run, quiet_libraries=False)


def _print(done: "PageWritten") -> None:
    print(f"{done.output}: {', '.join(done.runs)}, {done.n_bytes:,} bytes")
