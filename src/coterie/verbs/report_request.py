"""What `report` is asked for."""

from dataclasses import dataclass, field
from typing import Annotated

from coterie.errors import UserError
from coterie.verbs.options.declare import Option, Options


@dataclass(frozen=True, kw_only=True)
class ReportRequest(Options):
    """Which runs are shown on one page.

    Args:
        runs: Folders that runs wrote, or reports that were printed with ``--json``.

    >>> from pathlib import Path
    >>> ReportRequest(("small", "healed")).command(Path("page.html"))
    'coterie report small healed --output page.html'
    """

    VERB = "report"

    runs: Annotated[
        tuple[str, ...],
        Option(
            "DIR...",
            "DIR...",
            "Folders that runs wrote, or JSON reports of --json; several are set side by side.",
            path=True,
        ),
    ] = field(kw_only=False)

    def check(self) -> None:
        """Refuse no run, or one that is named twice.

        Raises:
            UserError: either of them.
        """
        super().check()
        if not self.runs:
            raise UserError("no run is named: name the folder of one")
        if len(set(self.runs)) < len(self.runs):
            raise UserError("a run is named twice: name each once")
