"""Tables as wide as the terminal: what does not fit stands in a further table below."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

SPACE = 2
"""Columns between two cells."""


def print_fitted(heads: Sequence[str], rows: Sequence[Sequence[str]], out: Console) -> None:
    """Print rows that begin with a name; the name stands whole before every part of them.

    Args:
        heads: Names of the columns.
        rows: The cells, a row each; lines of a cell are divided by line breaks.
        out: Where to print; its width decides.
    """
    widths = [
        max(_width(cell) for cell in (head, *(row[place] for row in rows)))
        for place, head in enumerate(heads)
    ]
    for part in _parts(widths, out.width):
        table = Table(box=None, padding=(0, SPACE, 0, 0))
        for place in part:
            table.add_column(heads[place], justify="right" if place else "left", no_wrap=not place)
        for row in rows:
            table.add_row(*(row[place] for place in part))
        out.print(table)


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """Places of columns, table by table; the first column begins every one."""
    parts, used = [[0]], widths[0]
    for place in range(1, len(widths)):
        if used + SPACE + widths[place] > width and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(place)
        used += SPACE + widths[place]
    return parts


def _width(cell: str) -> int:
    return max((cell_len(line) for line in cell.splitlines()), default=0)
