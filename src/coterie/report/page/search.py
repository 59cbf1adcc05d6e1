"""What a search found beside the cut: which layers stand in for each other, and what came back."""

from collections.abc import Sequence
from dataclasses import dataclass

from coterie import players as p
from coterie.report.page.elements import (
    Markup,
    number,
    section,
    siblings,
    table,
    tag,
    with_error,
)
from coterie.report.page.predict import pair_index
from coterie.report.schema.record import Record

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


def pairs(record: Record, whole: bool = True) -> Markup:
    """Which layers stand in for each other: a map of pairs, and the strongest in words.

    Args:
        record: Of a search.
        whole: With the map, not in words alone.
    """
    found, unit = _pairs(record)
    if not found:
        return Markup()
    labels = p.labels(record.model.player_kind, record.model.players)
    strongest = sorted(found, key=lambda one: -abs(one.value))[:NAMED]
    words = [tag("li", _in_words(one, labels, unit)) for one in strongest if one.value]
    return section(
        "Interactions",
        tag("ul", words),
        _map(found, labels, unit) if whole else None,
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
    return section("Stability", siblings(table(head, rows, "Agreement of every two runs")))
