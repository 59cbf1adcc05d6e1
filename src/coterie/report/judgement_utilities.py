"""What layers contribute to a mix of utilities and to each of them: its shape, and its printer."""

from typing import TypedDict

from rich.console import Console
from rich.table import Table

from coterie.report import words as w
from coterie.report.record import ContributionsPart, Record
from coterie.report.terminal import print_record


class UtilityPart(TypedDict):
    """One utility of the mix."""

    name: str
    measure: str
    weight: float
    units: int
    """Items of a task, or sequences of text."""
    full: float
    """What the full model scores."""
    scale: float
    """Mean absolute change of the score when one single layer is skipped."""
    contributions: ContributionsPart


class UtilityReport(TypedDict):
    """A whole report of ``coterie values --utility``."""

    record: Record
    """The mix, as any run of `values`."""
    unit: str
    items: int
    parts: list[UtilityPart]


def print_utilities(found: UtilityReport, console: Console | None = None) -> None:
    """Print the record of the mix, then one column a utility."""
    out = console or Console(highlight=False)
    print_record(found["record"], out)
    table = Table(box=None, padding=(0, 3, 0, 0))
    table.add_column(w.unit(found["record"]["model"]["player_kind"]), justify="right")
    parts = found["parts"]
    for part in parts:
        table.add_column(part["name"], justify="right")
    for place, layer in enumerate(parts[0]["contributions"]["layers"]):
        cells = []
        for part in parts:
            row = part["contributions"]["layers"][place]
            value, error = row["value"], row["error_texts"]
            shown = w.or_dash(value, "{:+.2f}")
            cells.append(shown if value is None else f"{shown} ± {w.or_dash(error, '{:.2f}')}")
        table.add_row(layer["player"], *cells)
    out.print("\n[bold]Contribution to each utility[/bold]")
    out.print(f"[dim]1 is {found['unit']}; ± one standard error over items or texts[/dim]")
    out.print(table)
    for part in parts:
        out.print(
            f"[dim]{part['name']}: {part['measure']}, weight {part['weight']:.2f}, "
            f"{part['units']} items or sequences; full model {part['full']:.4f}, one layer alone "
            f"changes it by {part['scale']:.4f} on average[/dim]"
        )
