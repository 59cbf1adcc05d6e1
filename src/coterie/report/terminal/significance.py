"""Which differences between models are more than chance, as one table on a terminal."""

from rich.console import Console

from coterie.report.schema.significance import LogsReport, SignificancePart
from coterie.report.terminal.fitted import print_fitted
from coterie.report.wording.significance import HEAD, cells, notes


def print_logs(found: LogsReport, console: Console | None = None) -> None:
    """Print what sample logs say, and which tasks were left out."""
    out = console or Console(highlight=False)
    print_significance(found.significance, out)
    if found.left_out:
        out.print(
            f"[dim]left out, not with the same items in all: {', '.join(found.left_out)}[/dim]"
        )


def print_significance(part: SignificancePart, out: Console) -> None:
    """Print one row a task and model."""
    out.print("\n[bold]Paired, item by item[/bold]")
    print_fitted(HEAD, [cells(row) for row in part.rows], out)
    for line in notes(part):
        out.print(f"[dim]{line}[/dim]")
