"""A comparison as a table: on a terminal, in Markdown, and as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import fields

from rich.console import Console

from coterie.report import words as w
from coterie.report.schema.basics import TextPart
from coterie.report.schema.compare import (
    Comparison,
    JudgedPart,
    MeanPart,
    RowCostPart,
    RowPart,
    RowSizePart,
)
from coterie.report.terminal.cluster import cluster_rows
from coterie.report.terminal.fitted import print_fitted
from coterie.report.wording.compare import best_first, removals, who_is_best

# Neither best nor tied: no mark.
_MARKS = {(True, False): "best", (False, True): "≈ best"}


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    """One table per number of layers removed, best first."""
    out = console or Console(highlight=False)
    out.print(verdict(found), markup=False)
    for removed in removals(found):
        out.print(f"\n[bold]{_title(found, removed)}[/bold]")
        rows = best_first(found, removed)
        # The full model leads every table, and gaps follow below it.
        there = [found.full, *(row for row in rows if row.gap is None)]
        heads, lines = _heads(found), [_line(found, row) for row in there]
        print_fitted(heads, lines, out)
        for row in rows:
            # A method without an answer says why, under the table.
            if row.gap is not None:
                out.print(f"{row.title}: no answer: {row.gap}", style="dim", markup=False)
    out.print()
    for line in _settings(found):
        out.print(line, markup=False)
    for remark in found.remarks:
        out.print(remark, style="dim", markup=False)


def markdown(found: Comparison) -> str:
    """The same as Markdown, gaps as rows of their own."""
    heads = _heads(found)
    parts = [f"# {found.model}: methods under one evaluator\n", *_settings(found)]
    for removed in removals(found):
        parts += [f"\n## {_title(found, removed)}\n", _bar(heads), _bar(["---"] * len(heads))]
        for row in [found.full, *best_first(found, removed)]:
            if row.gap is None:
                parts.append(_bar(_line(found, row)))
            else:
                # A bar would end the cell of a Markdown table.
                told = row.gap.replace("|", "/")
                parts.append(_bar([row.title, f"none: {told}", *[""] * (len(heads) - 2)]))
    parts += ["\n" + verdict(found), *found.remarks, f"\n`{found.command}`"]
    return "\n".join(parts) + "\n"


def as_csv(found: Comparison) -> str:
    """Every row with all its numbers, one line per held-out length."""
    text = io.StringIO()
    # One line per held-out length: spreadsheets want one number per cell.
    lines = [line for row in [found.full, *found.rows] for line in _flat(found, row)]
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def verdict(found: Comparison) -> str:
    """Who is best where, in sentences."""
    return "\n".join(f"- {line}" for line in who_is_best(found))


def _title(found: Comparison, removed: int) -> str:
    return f"{removed} of {found.layers} layers removed"


def _settings(found: Comparison) -> list[str]:
    second = found.second
    decide = "" if second is None else f"; {second.sequences} more decide between finalists"
    held_out = "; ".join(_text(text) for text in found.held_out)
    cluster = [] if found.cluster is None else cluster_rows(found.cluster)
    return [
        *(f"- {what}: {told}" for what, told in cluster),
        f"- model: {found.model} ({found.architecture}, {found.layers} layers), "
        f"{found.dtype} on {found.device}",
        f"- calibration: {_text(found.calibration)}{decide}",
        f"- held-out: {held_out}",
        "- ± one standard error, over documents; differences are paired sequence by sequence",
        "- cost: of one run that answers every number removed, the mean over seeds",
    ]


def _text(text: TextPart) -> str:
    bos = "BOS first" if text.bos else "no BOS"
    return (
        f"{text.description}, {text.sequences} × {text.length} tokens "
        f"of {text.documents} documents, {bos}"
    )


def _heads(found: Comparison) -> list[str]:
    heads = ["method"]
    for text in found.held_out:
        at = text.length
        heads += [f"perplexity {at}", "loss − full", "loss − best", ""]
    heads += ["calibration loss", "removed", "answers", "asked", "executed", "time", "peak"]
    heads += ["size", "tokens/s"]
    return heads + (["accuracy", "− full"] if found.tasks else [])


def _line(found: Comparison, row: RowPart) -> list[str]:
    line = [row.title]
    for part in row.held_out:
        line += _judged(row, part)
    line += [
        w.or_dash(row.calibration, "{:.4f}"),
        row.layers,
        # Answers that differ over seeds say how steady a method is; the full model has one.
        f"{row.answers}/{row.seeds}" if row.removed else "",
    ]
    cost, size = row.cost, row.size
    # The full model was not searched for.
    if cost is None:
        line += [""] * 4
    else:
        peak = cost.peak_bytes
        line += [w.count(cost.layer_tokens_asked), w.count(cost.layer_tokens_executed)]
        line += [w.seconds(cost.seconds), "–" if peak is None else w.size(peak)]
    line += ["–", "–"] if size is None else [w.size(size.bytes), _speed(size)]
    if found.tasks:
        line += [_mean(row.accuracy, "{:.3f}"), _mean(row.accuracy_against_full, "{:+.3f}")]
    return line


def _judged(row: RowPart, part: JudgedPart) -> list[str]:
    whole = not row.removed
    return [
        f"{part.perplexity.mean:.3f} ± {w.or_dash(part.perplexity.error)}",
        "" if whole else _mean(part.against_full, "{:+.4f}"),
        # The best row has no difference to itself.
        "" if whole or part.best else _mean(part.against_best, "{:+.4f}"),
        "" if whole else _MARKS.get((part.best, part.tied), ""),
    ]


def _speed(size: RowSizePart) -> str:
    if size.tokens_per_second is None or size.speedup is None:
        return "–"
    spread = "" if not size.speedup_error else f" ± {size.speedup_error:.2f}"
    return f"{size.tokens_per_second:.1f} (×{size.speedup:.2f}{spread})"


def _mean(part: MeanPart | None, pattern: str) -> str:
    if part is None:
        return "–"
    return f"{pattern.format(part.mean)} ± {w.or_dash(part.error, '{:.4f}')}"


def _bar(parts: Sequence[str]) -> str:
    return f"| {' | '.join(parts)} |"


def _flat(found: Comparison, row: RowPart) -> list[dict[str, str | int | float | None]]:
    """One flat record per held-out length; a gap has one, without numbers."""
    # A gap keeps its line, so that it shows in a spreadsheet too.
    parts: list[JudgedPart | None] = [*row.held_out] or [None]
    return [_flat_line(found, row, part) for part in parts]


def _flat_line(
    found: Comparison, row: RowPart, part: JudgedPart | None
) -> dict[str, str | int | float | None]:
    line: dict[str, str | int | float | None] = {
        "method": row.method,
        "paper": row.paper,
        "removed": row.removed,
        "gap": row.gap,
        "seeds": row.seeds,
        "answers": row.answers,
        "layers": row.layers,
        "dtype": found.dtype,
        "bos": found.held_out[0].bos,
        "calibration_sequences": row.sequences,
        "calibration_length": found.calibration.length,
        "calibration_nll": row.calibration,
        "length": None if part is None else part.length,
    }
    # Empty cells where there is no number: never a zero.
    for name in ("nll", "perplexity", "against_full", "against_best"):
        mean: MeanPart | None = None if part is None else getattr(part, name)
        line[name] = None if mean is None else mean.mean
        line[f"{name}_error"] = None if mean is None else mean.error
    line["best"] = None if part is None else part.best
    line["not_finite"] = None if part is None else part.not_finite
    # Names of the fields are the columns: a new field needs no line here.
    for part_of, kind in ((row.cost, RowCostPart), (row.size, RowSizePart)):
        for field in fields(kind):
            line[field.name] = None if part_of is None else getattr(part_of, field.name)
    accuracy = row.accuracy
    line["accuracy"] = None if accuracy is None else accuracy.mean
    line["accuracy_error"] = None if accuracy is None else accuracy.error
    return line
