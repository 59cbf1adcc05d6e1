"""Which differences between models are more than chance, row by row."""

from coterie.report.schema.significance import PairedRow, SignificancePart

HEAD = (
    "task", "against the first", "items", "first", "this", "difference, 95 %", "only first",
    "only this", "p (McNemar)", "p of all", "not worse",
)  # fmt: skip
"""Names of the columns."""


def cells(row: PairedRow) -> tuple[str, ...]:
    """One row of the table, as it is read."""
    counts = ("–" if one is None else f"{one:,}" for one in (row.only_first, row.only_second))
    return (
        f"{row.task} ({row.metric})",
        row.second,
        f"{row.items:,}",
        *(f"{100 * one:.1f}" for one in (row.score_first, row.score_second)),
        f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})",
        *counts,
        *(("–" if one is None else f"{one:.3g}") for one in (row.p, row.p_holm)),
        "yes" if row.not_inferior else "not shown",
    )


def notes(part: SignificancePart) -> list[str]:
    """What the columns mean."""
    return [
        f"in per cent; {part.comparisons} comparisons: p of all is valid for these together (Holm)",
        f"not worse: with 95 % confidence by less than {100 * part.margin:g} points (paired"
        " bootstrap over items)",
    ]
