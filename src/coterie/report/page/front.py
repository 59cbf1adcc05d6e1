"""The front: what cuts lose against what they leave, measured and predicted; and the finalists."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coterie import players as p
from coterie.report.figure.points import Axis, Point, Series
from coterie.report.page.costs import Measure, costs_of
from coterie.report.page.elements import (
    Markup,
    details,
    number,
    section,
    table,
    tag,
    views,
    with_error,
)
from coterie.report.page.plot import scatter
from coterie.report.page.predict import outline, predicted
from coterie.report.schema.explorer import PredictorPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import SizeChoicePart


@dataclass(frozen=True)
class _Cut:
    """A cut and its loss above the full model, nats per token."""

    players: Sequence[int]
    loss: float
    error: float | None = None
    name: str | None = None


@dataclass(frozen=True)
class _Cuts:
    """Cuts of one kind, as a series of the picture has them."""

    name: str
    kind: str
    cuts: Sequence[_Cut]

    def at(self, record: Record, cost: Measure | None) -> Series:
        """The same as points: by how many are cut, or by what is left of a cost."""
        points = [
            Point(
                len(one.players) if cost is None else cost.left(one.players),
                one.loss,
                _told(record, one, cost),
                one.error,
                one.name,
            )
            for one in self.cuts
        ]
        return Series(self.name, self.kind, points)


def front(record: Record, whole: bool = True) -> Markup:
    """Loss by what is left: measured with errors, predicted faint; the finalists by name.

    Args:
        record: Of a search.
        whole: Show what was measured one by one, and every measure of what is left.
    """
    sizes = record.choice.sizes if record.choice is not None else []
    part = record.predictor
    if not sizes and part is None:
        return Markup()
    return section(
        "Front and finalists",
        _pictures(record, sizes, part, whole),
        _finalists(record, sizes),
        None if part is None else _path_table(_path(part, record)),
        _observed(part) if part is not None and whole else None,
        None
        if record.choice is None or not record.choice.remark
        else tag("p", f"{record.choice.remark}."),
        note="Points at the upper edge lie above it.",
    )


def _pictures(
    record: Record, sizes: Sequence[SizeChoicePart], part: PredictorPart | None, whole: bool
) -> Markup:
    unit = p.unit(record.model.player_kind, plural=True)
    chosen = [_Cut(one.removed, one.excess, one.error, one.method) for one in sizes]
    rivals = [one for size in sizes for one in _rivals(size)]
    shown = [_Cuts("finalists", "second", rivals), _Cuts("chosen", "main", chosen)]
    if part is not None:
        seen = zip(part.cuts, part.losses, part.errors, strict=True)
        measured = [_Cut(cut, loss, error) for cut, loss, error in seen if loss is not None]
        shown = [
            _Cuts("measured in the search", "other", measured),
            _Cuts("predicted, one more at a time", "faint", _path(part, record)),
            *shown,
        ]
    loss = Axis("loss above the full model, nats per token", most=_most(chosen, part))

    def picture(axis: Axis, cost: Measure | None) -> Markup:
        told = f"Loss above the full model by {axis.label}; the tables below have the numbers"
        kind = "players" if cost is None else cost.kind
        # Without a predictor nothing says where another cut would stand.
        measure = None if part is None else kind
        return scatter([one.at(record, cost) for one in shown], axis, loss, told, measure)

    pictures = [(f"{unit} cut", picture(Axis(f"{unit} cut"), None))]
    for cost in costs_of(record) if whole else []:
        axis = Axis(f"{cost.name}, after the cut", unit="B" if cost.kind == "bytes" else "")
        pictures.append((cost.name, picture(axis, cost)))
    return views(pictures)


def _most(chosen: Sequence[_Cut], part: PredictorPart | None) -> float:
    """The greatest loss with room: what was cut far too deep would press all else to the floor."""
    if not chosen:
        return 1.0
    # A cut that was chosen repaired loses less than anything the search measured of its size.
    losses = zip(part.cuts, part.losses, strict=True) if part is not None else ()
    deep = max(len(one.players) for one in chosen)
    measured = [loss for cut, loss in losses if loss is not None and len(cut) == deep]
    least = min((loss for loss in measured if math.isfinite(loss)), default=0.0)
    return max(0.05, 1.5 * least, *(1.6 * one.loss for one in chosen))


def _rivals(size: SizeChoicePart) -> Iterator[_Cut]:
    """Finalists that did not win; the best of each method has its name written."""
    named = {size.method}
    behind = [one for one in size.finalists if one.behind is not None and one.behind > 0]
    for one in sorted(behind, key=lambda one: one.behind):
        name = None if one.method in named else one.method
        yield _Cut(one.removed, size.excess + one.behind, one.error, name)
        named.add(one.method)


def _told(record: Record, one: _Cut, cost: Measure | None) -> str:
    labels = p.labels(record.model.player_kind, record.model.players)
    gone = p.players([labels[player] for player in one.players])
    found = "" if one.name is None else f"{one.name}: "
    left = "" if cost is None else f", {cost.told(cost.left(one.players))} stay"
    return f"{found}{gone or 'nothing'} cut: {with_error(one.loss, one.error, '{:+.4f}')}{left}"


def _path(part: PredictorPart, record: Record) -> list[_Cut]:
    return [_Cut(cut, loss) for cut, loss in outline(part, _locked(record))]


def _locked(record: Record) -> Iterator[int]:
    labels = p.labels(record.model.player_kind, record.model.players)
    return (player for player, label in enumerate(labels) if label in record.model.locked)


def _finalists(record: Record, sizes: Sequence[SizeChoicePart]) -> Markup | None:
    rows = [
        (
            one.method,
            record.model.players - size.size,
            p.players(one.removed_labels),
            tag("data", with_error(one.behind, one.error, "{:+.4f}"), value=one.behind),
            _number(None if one.behind is None else size.excess + one.behind),
        )
        for size in sizes
        for one in size.finalists
    ]
    if not rows:
        return None
    unit = record.choice.unit if record.choice is not None else None
    unit = unit or "nats per token"
    head = ("found by", "how many", "cut", f"behind the best, {unit}", "above the full model")
    return table(head, rows, "Finalists, compared on the same texts", sortable=True)


def _path_table(path: Sequence[_Cut]) -> Markup:
    rows = [(len(one.players), _runs(one.players), _number(one.loss)) for one in path]
    told = "One more cut at a time, by what is predicted to cost least"
    head = ("how many", "cut", "predicted, nats per token")
    return details(told, table(head, rows, told, sortable=True))


def _number(value: float | None) -> Markup:
    return tag("data", number(value, "{:+.4f}"), value=value)


def _observed(part: PredictorPart) -> Markup:
    rows = [
        (
            _runs(cut),
            len(cut),
            tag("data", with_error(loss, error, "{:+.4f}"), value=loss),
            _number(predicted(part, cut)),
        )
        for cut, loss, error in zip(part.cuts, part.losses, part.errors, strict=True)
    ]
    told = f"Loss above the full model ({number(part.full)}), {part.unit}, on calibration text"
    head = ("cut", "how many", "measured", "predicted")
    return details(
        f"The {len(rows)} coalitions that the predictor has seen",
        table(head, rows, told, sortable=True),
    )


def _runs(cut: Sequence[int]) -> str:
    return p.players([str(player) for player in cut])
