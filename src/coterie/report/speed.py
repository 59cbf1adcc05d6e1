"""How fast models are and what memory they take: its shape as plain JSON, its printer, its figure.

The first model is the one the others are compared with.
"""

from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from coterie.report import words as w
from coterie.report.judgement import EstimatePart


class TimePart(TypedDict):
    """Seconds over the rounds: their median, and between which the middle half of them lies."""

    median: float
    low: float
    high: float


class SpeedRow(TypedDict):
    """One model under one load."""

    name: str
    batch: int
    context: int
    new_tokens: int
    prefill: TimePart
    first_token: TimePart
    next_token: TimePart
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    prefill_speedup: float
    """Median over the rounds of the first model's time over this one's."""
    decode_speedup: float
    weight_bytes: int
    extra_bytes: int | None
    """Peak above the weights; null where the system does not tell."""


class DraftRow(TypedDict):
    """What a model is worth as the draft of the first (arXiv:2211.17192)."""

    name: str
    prompts: int
    prompt_length: int
    new_tokens: int
    acceptance: float
    tokens_per_pass: float
    speedup: TimePart
    identical: float


class SpeedReport(TypedDict):
    """A whole report of `coterie bench`."""

    kind: str
    command: str
    dtype: str
    device: str
    rounds: int
    warmup: int
    rows: list[SpeedRow]
    drafts: list[DraftRow]
    quality: dict[str, EstimatePart]
    """Held-out perplexity by model; empty where no text was named."""
    quality_text: str | None
    versions: dict[str, str]
    machine: dict[str, str | int]


def print_speed(found: SpeedReport, console: Console | None = None) -> None:
    """Print one table a load, and one of the drafts."""
    out = console or Console(highlight=False)
    loads = dict.fromkeys((row["batch"], row["context"]) for row in found["rows"])
    for batch, context in loads:
        out.print(f"\n[bold]batch {batch}, context {context}[/bold]")
        rows = [row for row in found["rows"] if (row["batch"], row["context"]) == (batch, context)]
        out.print(_load_table(rows))
    if found["drafts"]:
        out.print(f"\n[bold]As drafts of {found['rows'][0]['name']}[/bold]")
        out.print(_draft_table(found["drafts"]))
    for name, part in found["quality"].items():
        if part["mean"] is not None:
            error = w.or_dash(part["error"])
            out.print(f"{name}: perplexity {part['mean']:.3f} ± {error}")
    threads = found["machine"]["threads"]
    out.print(
        f"[dim]{found['dtype']} on {found['device']}, {threads} threads; medians of "
        f"{found['rounds']} rounds after {found['warmup']}, models in turn; × against "
        f"{found['rows'][0]['name']}, round by round[/dim]"
    )


def draw_quality(found: SpeedReport, path: Path) -> None:
    """Held-out perplexity against decoding speed, one point a model; format by suffix."""
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    first = (found["rows"][0]["batch"], found["rows"][0]["context"])
    rows = [row for row in found["rows"] if (row["batch"], row["context"]) == first]
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        quality = found["quality"].get(row["name"])
        if quality is None or quality["mean"] is None:
            continue
        at = row["decode_tokens_per_second"], quality["mean"]
        colour = "#c44536" if place else "#2a6f97"
        axes.errorbar(*at, yerr=quality["error"] or 0.0, fmt="o", color=colour, capsize=2)
        axes.annotate(row["name"], at, textcoords="offset points", xytext=(6, 5), fontsize=9)
    axes.set_xlabel(f"decoded tokens per second (batch {first[0]}, context {first[1]})")
    axes.set_ylabel("held-out perplexity")
    axes.margins(0.15)
    axes.spines[["top", "right"]].set_visible(False)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=110, metadata=metadata)


def _load_table(rows: list[SpeedRow]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    heads = ("prefill", "first token", "next token", "prefill tok/s", "decode tok/s")
    for name in (*heads, "weights", "peak above"):
        table.add_column(name, justify="right")
    for row in rows:
        extra = row["extra_bytes"]
        table.add_row(
            row["name"],
            f"{_time(row['prefill'])} ×{row['prefill_speedup']:.2f}",
            _time(row["first_token"]),
            f"{_time(row['next_token'])} ×{row['decode_speedup']:.2f}",
            w.count(row["prefill_tokens_per_second"]),
            w.count(row["decode_tokens_per_second"]),
            w.size(row["weight_bytes"]),
            "–" if extra is None else w.size(extra),
        )
    return table


def _draft_table(rows: list[DraftRow]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in ("accepted", "tokens per pass", "speed-up", "same text"):
        table.add_column(name, justify="right")
    for row in rows:
        times = row["speedup"]
        table.add_row(
            row["name"],
            f"{row['acceptance']:.1%}",
            f"{row['tokens_per_pass']:.2f}",
            f"×{times['median']:.2f} ({times['low']:.2f}–{times['high']:.2f})",
            f"{row['identical']:.0%}",
        )
    return table


def _time(part: TimePart) -> str:
    return f"{1000 * part['median']:.1f} ms"
