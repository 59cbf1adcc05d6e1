"""What layers contribute to a mix of utilities, as tables on a terminal."""

from rich.console import Console
from rich.table import Table

from coterie import players as p
from coterie.report import words as w
from coterie.report.schema.record import Record
from coterie.report.schema.search import UtilityPart
from coterie.report.schema.utilities import UtilityReport
from coterie.report.terminal.prune import print_record


def print_utilities(found: UtilityReport, console: Console | None = None) -> None:
    """Print the record of the mix, then one column a utility."""
    out = console or Console(highlight=False)
    print_record(found.record, out)
    _print_parts(found.parts, found.unit, found.record, out)


def print_mixed(record: Record, console: Console | None = None, *, verbose: bool = False) -> None:
    """Print a record, then the utilities that its cut was chosen by, if any were.

    Args:
        record: The whole report.
        console: Where to print; by default the terminal.
        verbose: Also what only some readers want.
    """
    out = console or Console(highlight=False)
    print_record(record, out, verbose=verbose)
    if record.utility is not None:
        mix = record.utility
        _print_parts(mix.parts, mix.unit, record, out)


def _print_parts(parts: list[UtilityPart], unit: str, record: Record, out: Console) -> None:
    # Columns only if every utility has contributions: half a table misleads.
    columns = [one for part in parts if (one := part.contributions) is not None]
    if len(columns) == len(parts):
        table = Table(box=None, padding=(0, 3, 0, 0))
        table.add_column(p.unit(record.model.player_kind), justify="right")
        for part in parts:
            table.add_column(part.name, justify="right")
        for layers in zip(*(one.layers for one in columns), strict=True):
            cells = []
            for layer in layers:
                # The error over items or texts alone: a column has no room for both.
                value, error = layer.value, layer.error_texts
                shown = w.or_dash(value, "{:+.2f}")
                cells.append(shown if value is None else f"{shown} ± {w.or_dash(error, '{:.2f}')}")
            table.add_row(layers[0].player, *cells)
        out.print("\n[bold]Contribution to each utility[/bold]")
        out.print(f"[dim]1 is {unit}; ± one standard error over items or texts[/dim]")
        out.print(table)
    for part in parts:
        # Cut models only where something was cut.
        cut = f", cut model {part.cut:.4f}" if part.cut is not None else ""
        out.print(
            f"[dim]{part.name}: {part.measure}, weight {part.weight:.2f}, "
            f"{part.units} items or sequences; full model {part.full:.4f}{cut}; one layer "
            f"alone changes it by {part.scale:.4f} on average[/dim]"
        )
