"""Methods of a comparison as cut and repaired, side by side."""

from collections.abc import Iterator

from coterie.report.page.elements import Markup, number, section, table, tag, with_error
from coterie.report.schema.compare import Comparison, RowPart

REPAIRED = "+repair"
"""Stands behind a method's name where its answers were repaired."""


def with_and_without_repair(found: Comparison) -> Markup:
    """What each method loses as cut, and repaired; nothing where nothing was repaired."""
    pairs = list(_pairs(found))
    if not pairs:
        return Markup()
    first = found.held_out[0].length
    rows = []
    for cut, repaired in pairs:
        before, after = _loss(cut), _loss(repaired)
        change = None if before is None or after is None else before - after
        share = None if change is None or not before else change / before
        rows.append(
            (
                cut.title,
                cut.removed,
                _cell(before, cut),
                _cell(after, repaired),
                tag("data", number(change, "{:+.4f}"), value=change),
                tag("data", number(share, "{:.0%}"), value=share),
            )
        )
    head = ("method", "cut", "loss as cut", "loss repaired", "given back", "share")
    told = f"Loss above the full model on held-out text of length {first}, nats per token"
    whole = table(head, rows, told, sortable=True)
    return section("With and without repair", whole)


def _pairs(found: Comparison) -> Iterator[tuple[RowPart, RowPart]]:
    """Every row with that of its repaired answer."""
    repaired = {(row.method, row.removed): row for row in found.rows}
    for row in found.rows:
        other = repaired.get((row.method + REPAIRED, row.removed))
        if other is not None:
            yield row, other


def _loss(row: RowPart) -> float | None:
    return row.held_out[0].against_full.mean if row.held_out else None


def _cell(loss: float | None, row: RowPart) -> Markup:
    # Its error against the best row is paired, and what two rows are told apart by.
    error = row.held_out[0].against_best.error if row.held_out else None
    return tag("data", with_error(loss, error, "{:+.4f}"), value=loss)
