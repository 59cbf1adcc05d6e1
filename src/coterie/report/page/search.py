"""What a search found beside the cut: pairs of layers, the front, finalists, repeated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coterie import players as p
from coterie.report.page.elements import (
    Markup,
    details,
    number,
    section,
    table,
    tag,
    together,
    with_error,
)
from coterie.report.page.plot import Axis, Point, Series, scatter
from coterie.report.page.predict import outline, pair_index, predicted
from coterie.report.page.stack import labels_of
from coterie.report.schema.explorer import PredictorPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import SizeChoicePart

NAMED = 6
"""Pairs told in words, at most."""

SMALL = 24
"""Players up to which the cells of the heat map have their numbers written in them."""


@dataclass(frozen=True)
class _Pair:
    """Two players, and what cutting both costs beyond cutting each: nats, or in `unit`."""

    first: int
    second: int
    value: float
    error: float | None


def pairs(record: Record) -> Markup:
    """Which layers stand in for each other: a map of pairs, and the strongest in words."""
    if record.cut is None:
        return Markup()
    found, unit = _pairs(record)
    if not found:
        return Markup()
    labels = labels_of(record.cut)
    strongest = sorted(found, key=lambda one: -abs(one.value))[:NAMED]
    words = [tag("li", _in_words(one, labels, unit)) for one in strongest if one.value]
    return section(
        "Interactions",
        tag("ul", words),
        _map(found, labels, unit),
        note=(
            "What two layers cost when both are cut, beyond what each costs alone. Red: more, they"
            " stand in for each other. Blue: less, they do one work together."
        ),
    )


def _pairs(record: Record) -> tuple[list[_Pair], str]:
    if (asked := record.interactions) is not None:
        # An interaction of values: negative where players stand in for each other.
        return [
            _Pair(one.players[0], one.players[1], -one.value, one.error_sampling)
            for one in asked.pairs
            if one.value is not None
        ], asked.unit
    if (part := record.predictor) is None:
        return [], ""
    n = len(part.single)
    return [
        _Pair(one, two, part.pairs[pair_index(one, two, n)], None)
        for one in range(n)
        for two in range(one + 1, n)
    ], part.unit


def _in_words(one: _Pair, labels: Sequence[str], unit: str) -> str:
    both = f"{p.named(labels[one.first])} and {p.named(labels[one.second])}"
    size = f"{with_error(abs(one.value), one.error)} {unit}"
    if one.value > 0:
        return f"{both} stand in for each other: cutting both costs {size} more than the two alone."
    return f"{both} work as one: cutting both costs {size} less than the two alone."


def _map(found: Sequence[_Pair], labels: Sequence[str], unit: str) -> Markup:
    """The pairs as a table whose cells are tinted: the picture is its own text."""
    top = max(abs(one.value) for one in found) or 1.0
    values = {(one.first, one.second): one.value for one in found}
    head = [tag("td"), *(tag("th", label, scope="col") for label in labels)]
    rows = []
    for first, label in enumerate(labels):
        cells = [_cell(values, first, second, top) for second in range(len(labels))]
        rows.append(tag("tr", tag("th", label, scope="row"), cells))
    kind = "heat" if len(labels) <= SMALL else "heat dense"
    told = f"Cost of pairs beyond the two alone, {unit}"
    whole = tag("table", tag("caption", told), tag("tr", head), rows, class_=kind)
    return tag("div", whole, class_="wide", tabindex="0", role="region", aria_label=told)


def _cell(values: dict[tuple[int, int], float], first: int, second: int, top: float) -> Markup:
    # Below the diagonal stands the same again, so nothing does.
    if (value := values.get((first, second))) is None:
        return tag("td")
    # Tints in tenths: classes are shorter than colours, and follow dark and light.
    tint = round(10 * abs(value) / top)
    return tag("td", f"{value:.3f}", class_=f"{'p' if value > 0 else 'n'}{tint}")


def front(record: Record) -> Markup:
    """Loss by layers cut: what was measured with errors, what is predicted faint; finalists."""
    sizes = record.choice.sizes if record.choice is not None else []
    part = record.predictor
    if not sizes and part is None:
        return Markup()
    return section(
        "Front and finalists",
        _front_plot(record, sizes, part),
        _finalists(record, sizes),
        None if part is None else _observed(part, record),
        None
        if record.choice is None or not record.choice.remark
        else tag("p", f"{record.choice.remark}."),
    )


def _front_plot(
    record: Record, sizes: Sequence[SizeChoicePart], part: PredictorPart | None
) -> Markup:
    unit = p.unit(record.model.player_kind, plural=True)
    n_players = record.model.players
    winners = [
        Point(
            n_players - one.size,
            one.excess,
            f"{p.players(one.removed_labels)} cut: {with_error(one.excess, one.error, '{:+.4f}')}",
            one.error,
            one.method,
        )
        for one in sizes
    ]
    seen, faint = ([], []) if part is None else (_seen(part), _faint(part, record))
    top = max([0.05, *(1.6 * one.y for one in winners)] if winners else [1.0])
    return scatter(
        [
            Series("predicted, one more at a time", "faint", faint),
            Series("measured in the search", "other", seen),
            Series("chosen, on all texts that decide", "main", winners),
        ],
        Axis(f"{unit} cut"),
        Axis("loss above the full model, nats per token", most=top),
        f"Loss above the full model by {unit} cut; the tables below have the numbers",
    )


def _seen(part: PredictorPart) -> list[Point]:
    return [
        Point(len(cut), loss, f"{_runs(cut)} cut: {with_error(loss, error, '{:+.4f}')}")
        for cut, loss, error in zip(part.cuts, part.losses, part.errors, strict=True)
        if loss is not None
    ]


def _faint(part: PredictorPart, record: Record) -> list[Point]:
    return [
        Point(len(cut), loss, f"{_runs(cut)} cut: {loss:+.4f} predicted")
        for cut, loss in outline(part, _locked(record))
    ]


def _locked(record: Record) -> Iterator[int]:
    assert record.cut is not None
    labels = labels_of(record.cut)
    return (player for player, label in enumerate(labels) if label in record.model.locked)


def _finalists(record: Record, sizes: Sequence[SizeChoicePart]) -> Markup | None:
    rows = [
        (
            one.method,
            record.model.players - size.size,
            p.players(one.removed_labels),
            tag("data", with_error(one.behind, one.error, "{:+.4f}"), value=one.behind),
        )
        for size in sizes
        for one in size.finalists
    ]
    if not rows:
        return None
    unit = record.choice.unit if record.choice is not None else None
    head = ("found by", "how many", "cut", f"behind the best, {unit or 'nats per token'}")
    return table(head, rows, "Finalists, compared on the same texts", sortable=True)


def _observed(part: PredictorPart, record: Record) -> Markup:
    rows = [
        (
            _runs(cut),
            len(cut),
            tag("data", with_error(loss, error, "{:+.4f}"), value=loss),
            number(predicted(part, cut), "{:+.4f}"),
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


def repeated(record: Record) -> Markup:
    """How much of the answer stays the same from run to run."""
    if (found := record.stability) is None:
        return Markup()
    rows = [
        (
            one.over,
            one.runs,
            ", ".join(number(rank, "{:.2f}") for rank in one.ranks),
            ", ".join(f"{overlap:.2f}" for overlap in one.cuts),
        )
        for one in found.overlaps
    ]
    head = ("what differs", "runs", "rank correlations", "overlaps of cuts")
    return section("Stability", together(table(head, rows, "Agreement of every two runs")))
