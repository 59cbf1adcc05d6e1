"""What a smaller model writes beside the full one, on a terminal."""

from rich.console import Console
from rich.table import Table

from coterie.report.schema.generation import GenerationPart
from coterie.report.wording.generation import generation_rows, generation_warning, how_asked

_WIDTH = 110
"""Characters of a continuation that are shown."""


def print_warning(part: GenerationPart | None, ratio: float, out: Console) -> None:
    """Print in red that generation broke, where it did.

    Args:
        part: What was written, if anything was.
        ratio: Perplexity of the smaller model over that of the full one.
        out: Where to print.
    """
    told = generation_warning(part, ratio)
    if told is not None:
        out.print(told, style="bold red", markup=False)


def print_generation(part: GenerationPart, out: Console, first: str = "full model") -> None:
    """Print the measures of both, and a continuation of each.

    Args:
        part: What was written.
        out: Where to print.
        first: What the one is called that the smaller is held against.
    """
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", first, "this one"):
        table.add_column(name, justify="left" if not name else "right")
    for row in generation_rows(part, first):
        table.add_row(*row)
    out.print(f"\n[bold]What it writes[/bold] [dim]({how_asked(part)})[/dim]")
    out.print(table)
    # One is enough here: the page shows more, side by side.
    for sample in part.samples[:1]:
        begun, *went_on = (
            " ".join(text.split()) for text in (sample.prompt, sample.full, sample.smaller)
        )
        out.print(f"  after: {begun[-_WIDTH:]}", markup=False)
        for name, text in zip((first, "this one"), went_on, strict=True):
            out.print(f"  {name}: {text[:_WIDTH]}", markup=False)
