"""Names and what stands behind them, as a table without lines."""

from rich.console import Console
from rich.table import Table


def print_pairs(rows: list[tuple[str, str]], out: Console, title: str) -> None:
    """Print rows of a name and its content under a title.

    Args:
        rows: The rows.
        out: Where it is printed.
        title: What they are about.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    out.print(f"\n[bold]{title}[/bold]")
    out.print(table)
