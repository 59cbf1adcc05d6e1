"""Pictures of a comparison: loss against what a method costs, and against what it leaves."""

from collections.abc import Callable, Iterable

from coterie.report import words as w
from coterie.report.figure.points import Axis, Point, Series
from coterie.report.page.elements import Markup, siblings, tag, views, with_error
from coterie.report.page.plot import scatter
from coterie.report.page.with_repair import REPAIRED
from coterie.report.schema.compare import Comparison, RowPart, RowSizePart
from coterie.report.wording.compare import removals

OURS = frozenset({"guided", "paper"})

_LOSS = Axis("loss above the full model, nats per token")


def by_cost(found: Comparison) -> list[Markup]:
    """One picture for each number of layers removed."""
    panels = []
    for removed in removals(found):
        picture = scatter(
            _series((row for row in found.rows if row.removed == removed), _work),
            Axis("layer-tokens asked (backward passes twice)", log=True),
            _LOSS,
            f"Loss against cost, {removed} layers removed; the table above has the numbers",
        )
        panels.append(siblings(tag("h4", f"{removed} of {found.layers} layers removed"), picture))
    return panels


def by_what_is_left(found: Comparison) -> Markup:
    """All rows by their parameters, bytes and speed."""
    pictures = [
        (
            name,
            scatter(
                _series(found.rows, _of_size(read)),
                Axis(name),
                _LOSS,
                f"Loss against {name}, all methods; the table above has the numbers",
            ),
        )
        for name, read in _LEFT
    ]
    return views(pictures)


_LEFT: tuple[tuple[str, Callable[[RowSizePart], float | None]], ...] = (
    ("parameters", lambda size: size.parameters),
    ("bytes on disk", lambda size: size.bytes),
    ("speed against the full model", lambda size: size.speedup),
)


def _series(rows: Iterable[RowPart], place: Callable[[RowPart], float | None]) -> list[Series]:
    """Rows as points: those of others, repaired ones, and ours on top."""
    others, repaired, ours = list[Point](), list[Point](), list[Point]()
    for row in rows:
        x = place(row)
        if x is None or not row.held_out:
            continue
        part = row.held_out[0]
        loss, error = part.against_full.mean, part.against_best.error
        told = f"{row.title}, {row.removed} cut: {with_error(loss, error, '{:+.4f}')}"
        if row.cost is not None:
            told += f" for {w.count(_work(row) or 0)} layer-tokens"
        kind = ours if row.method in OURS else others
        if row.method.endswith(REPAIRED):
            kind = repaired
        kind.append(Point(x, loss, told, error, row.title))
    return [
        Series("others", "other", others),
        Series("repaired", "second", repaired),
        Series("Coterie", "main", ours),
    ]


def _work(row: RowPart) -> float | None:
    if row.cost is None:
        return None
    # Backward passes are about two forward ones; a cost of nothing has no place on a logarithm.
    return max(row.cost.layer_tokens_asked + 2 * row.cost.backward_layer_tokens, 1.0)


def _of_size(read: Callable[[RowSizePart], float | None]) -> Callable[[RowPart], float | None]:
    return lambda row: None if row.size is None else read(row.size)
