"""Which differences between models are more than chance, as one table on a terminal."""

from rich.console import Console
from rich.table import Table

from coterie.report.schema.significance import LogsReport, PairedRow, SignificancePart


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
    table = Table(box=None, padding=(0, 2, 0, 0))
    head = ("task", "against the first", "items", "first", "this", "difference, 95 %", "only first")
    for name in (*head, "only this", "p (McNemar)", "p of all", "not worse"):
        table.add_column(name, justify="left" if name in head[:2] else "right")
    for row in part.rows:
        table.add_row(*cells(row))
    out.print("\n[bold]Paired, item by item[/bold]")
    out.print(table)
    for line in notes(part):
        out.print(f"[dim]{line}[/dim]")


def cells(row: PairedRow) -> tuple[str, ...]:
    """One row of the table, as it is read."""
    counts = ("–" if one is None else f"{one:,}" for one in (row.only_first, row.only_second))
    return (
        f"{row.task} ({row.metric})",
        row.second,
        f"{row.items:,}",
        *(f"{100 * one:.1f}" for one in (row.score_first, row.score_second)),
        f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})",
        *counts,
        *(("–" if one is None else f"{one:.3g}") for one in (row.p, row.p_holm)),
        "yes" if row.not_inferior else "not shown",
    )


def notes(part: SignificancePart) -> list[str]:
    """What the columns mean."""
    return [
        f"in per cent; {part.comparisons} comparisons: p of all is valid for these together (Holm)",
        f"not worse: with 95 % confidence by less than {100 * part.margin:g} points (paired"
        " bootstrap over items)",
    ]
