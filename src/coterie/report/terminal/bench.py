"""How fast models are, as tables on a terminal."""

from rich.console import Console

from coterie.report import words as w
from coterie.report.schema.bench import SpeedReport, SpeedRow, TimePart
from coterie.report.terminal.fitted import print_fitted


def print_speed(found: SpeedReport, console: Console | None = None) -> None:
    """Print one table a load."""
    out = console or Console(highlight=False)
    # Loads in the order they were asked, each with all models.
    loads = dict.fromkeys((row.batch, row.context) for row in found.rows)
    for batch, context in loads:
        out.print(f"\n[bold]batch {batch}, context {context}[/bold]")
        rows = [row for row in found.rows if (row.batch, row.context) == (batch, context)]
        _print_load(rows, out)
    for name, part in found.quality.items():
        if part.mean is not None:
            error = w.or_dash(part.error)
            out.print(f"{name}: perplexity {part.mean:.3f} ± {error}")
    # Threads decide much of these numbers, so the report tells how many.
    threads = found.machine["threads"]
    out.print(
        f"[dim]{found.dtype} on {found.device}, {threads} threads; medians of "
        f"{found.rounds} rounds after {found.warmup}, models in turn; × against "
        f"{found.rows[0].name}, round by round[/dim]"
    )


def _print_load(rows: list[SpeedRow], out: Console) -> None:
    heads = ("model", "prefill", "first token", "next token", "prefill tok/s", "decode tok/s")
    cells = [
        # Every number of the first model beside those of the others: factors alone mislead.
        (
            row.name,
            f"{_time(row.prefill)} {_times(row.prefill_speedup, row.prefill_speedup_error)}",
            _time(row.first_token),
            f"{_time(row.next_token)} {_times(row.decode_speedup, row.decode_speedup_error)}",
            w.count(row.prefill_tokens_per_second),
            w.count(row.decode_tokens_per_second),
            w.size(row.weight_bytes),
            "–" if row.extra_bytes is None else w.size(row.extra_bytes),
        )
        for row in rows
    ]
    print_fitted([*heads, "weights", "peak above"], cells, out)


def _times(speedup: float, error: float | None) -> str:
    """How many times as fast; the first model is compared with itself, and has no error."""
    return f"×{speedup:.2f}" + (f" ± {error:.2f}" if error else "")


def _time(part: TimePart) -> str:
    return f"{1000 * part.median:.1f} ms"
