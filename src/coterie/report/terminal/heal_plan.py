"""What a healing would do and cost, on a terminal."""

from rich.console import Console
from rich.table import Table

from coterie.report import words as w
from coterie.report.schema.plan import HealPlan


def print_heal_plan(plan: HealPlan, console: Console | None = None) -> None:
    """Print steps, tokens, time, memory and disk."""
    out = console or Console(highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    read = f"{w.count(plan.tokens)}, of {plan.sequences:,} different sequences"
    for row in (
        ("mode", f"{plan.mode}: {w.count(plan.trained_parameters)} numbers are trained"),
        ("steps", f"{plan.steps:,} of {plan.batch} × {plan.length} tokens"),
        ("tokens", read),
        ("estimated time", f"{w.seconds(plan.seconds)} of learning, beside loading and judging"),
        ("memory", f"{w.size(plan.memory_bytes)} and what is inside the layers"),
        ("disk", w.size(plan.disk_bytes)),
        ("from", plan.text.description),
    ):
        table.add_row(*row)
    out.print("\n[bold]Plan of the healing (nothing was written)[/bold]")
    out.print(table)
