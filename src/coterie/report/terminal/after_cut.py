"""What repair, healing and quantizing did, as tables on a terminal."""

from rich.console import Console
from rich.table import Table

from coterie.report.schema.after_cut import AfterPart
from coterie.report.terminal.generation import print_generation
from coterie.report.wording.after_cut import MODELS, TITLES, after_rows


def print_after(part: AfterPart, console: Console | None = None) -> None:
    """Print one part: how it was done, and the loss before and after."""
    out = console or Console(highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    # The rows are shared with the model card.
    for row in after_rows(part):
        table.add_row(*row)
    # The verdict comes first; why what it writes is no good stands in its row.
    if part.sentence is not None:
        out.print(f"\n[bold]{part.sentence}[/bold]")
    out.print(f"\n[bold]{TITLES[part.what]}[/bold]")
    out.print(table)
    if part.beside is not None and part.beside.generation is not None:
        print_generation(part.beside.generation, out, MODELS[part.beside.model])
