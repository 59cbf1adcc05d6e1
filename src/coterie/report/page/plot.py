"""Points in a plane as SVG: two axes, several series, errors, a few names."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from coterie.report.page.elements import Markup, tag

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 48

FEW = 2.0
"""Powers of ten on a logarithmic axis below which it has steps between them."""

LETTER, LINE = 6.3, 12.0
"""About the width of a letter and the height of a line."""


@dataclass(frozen=True)
class Point:
    """A point with its error bar.

    Attributes:
        x: On the horizontal axis.
        y: On the vertical one.
        told: What is said of it where a pointer rests on it.
        error: Half the length of its bar.
        name: Written beside it.
    """

    x: float
    y: float
    told: str
    error: float | None = None
    name: str | None = None


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes:
        name: In the legend.
        kind: ``main``, ``other``, ``faint`` or ``guide``; guides are dashed lines across the
            picture through their points, for what others are held against.
        points: The points.
        joined: A line leads from each to the next.
    """

    name: str
    kind: str
    points: Sequence[Point]
    joined: bool = False


@dataclass(frozen=True)
class Axis:
    """What an axis shows.

    Attributes:
        label: With its unit.
        log: Whether equal steps are equal factors.
        most: Values above it are drawn at the edge; None draws all.
    """

    label: str
    log: bool = False
    most: float | None = None


class _Scale:
    """From values to places."""

    def __init__(self, axis: Axis, values: Iterable[float], start: float, end: float) -> None:
        self._log, self._most = axis.log, axis.most
        known = [self._read(one) for one in values]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        pad = (high - low) * 0.06 or 0.5
        self._low, self._high = low - pad, high + pad
        self._start, self._end = start, end

    def _read(self, value: float) -> float:
        value = value if self._most is None else min(value, self._most)
        return math.log10(max(value, 1.0)) if self._log else value

    def __call__(self, value: float) -> float:
        share = (self._read(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        if self._log:
            powers = range(math.floor(self._low), math.ceil(self._high) + 1)
            # Within a few powers of ten there is room for steps between them.
            steps = (1, 2, 5) if self._high - self._low < FEW else (1,)
            every = [step * 10.0**power for power in powers for step in steps]
            return [one for one in every if self._low <= math.log10(one) <= self._high]
        step = 10 ** math.floor(math.log10(self._high - self._low))
        step = next(s * step for s in (0.2, 0.5, 1, 2) if (self._high - self._low) / (s * step) < 7)
        first = math.ceil(self._low / step)
        return [n * step for n in range(first, math.floor(self._high / step) + 1)]


def scatter(series: Sequence[Series], x: Axis, y: Axis, told: str) -> Markup:
    """The points of some series; nothing where there are none.

    Args:
        series: Later ones are drawn over earlier ones.
        x: The horizontal axis.
        y: The vertical axis.
        told: The picture in a sentence, for those who do not see it.
    """
    series = [replace(one, points=real) for one in series if (real := _real(one.points))]
    points = [point for one in series for point in one.points]
    if not points:
        return Markup()
    across = _Scale(x, [one.x for one in points], LEFT, WIDTH - RIGHT)
    up = _Scale(y, [one.y for one in points], HEIGHT - BOTTOM, TOP)
    # Axes first, so that points lie over them.
    drawn = [*_axes(across, up, x.label, y.label)]
    names = _Names()
    # The last series lies on top, so that its names come first where room is short.
    groups = [_drawn(one, across, up, names) for one in reversed(series)]
    drawn += reversed(groups)
    legend = [tag("li", one.name, class_=one.kind) for one in series] if len(series) > 1 else []
    picture = tag(
        "svg", drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=told, class_="plot"
    )
    return tag("figure", picture, tag("ul", legend, class_="legend") if legend else None)


def _real(points: Iterable[Point]) -> list[Point]:
    return [one for one in points if math.isfinite(one.x) and math.isfinite(one.y)]


def _axes(across: _Scale, up: _Scale, x: str, y: str) -> Iterable[Markup]:
    for value in up.ticks():
        at = f"{up(value):.1f}"
        yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid")
        yield tag("text", _tick(value), x=LEFT - 8, y=at, text_anchor="end", dy="0.32em")
    for value in across.ticks():
        at = f"{across(value):.1f}"
        yield tag("text", _tick(value), x=at, y=HEIGHT - BOTTOM + 18, text_anchor="middle")
    yield tag("text", x, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f"rotate(-90 14 {middle})"
    yield tag("text", y, x=14, y=middle, text_anchor="middle", transform=turned)


class _Names:
    """Names beside points; one that would lie over another is left to the pointer."""

    def __init__(self) -> None:
        self._taken: list[tuple[float, float, float]] = []

    def beside(self, point: Point, x: float, y: float) -> Markup | None:
        """The name of a point at its place; None where it has none, or no room."""
        if point.name is None:
            return None
        # To the left of a point near the right edge, so that no name is cut off.
        late = x > 0.7 * WIDTH
        wide = LETTER * len(point.name)
        start, base = (x - 8 - wide if late else x + 8), y - 6
        if any(
            abs(base - other) < LINE and start < end and begin < start + wide
            for begin, end, other in self._taken
        ):
            return None
        self._taken.append((start, start + wide, base))
        at = {"x": f"{x - 8 if late else x + 8:.1f}", "y": f"{base:.1f}"}
        return tag("text", point.name, **at, text_anchor="end" if late else "start", class_="label")


def _drawn(series: Series, across: _Scale, up: _Scale, names: _Names) -> Markup:
    """One series: its line where it has one, its points and their names."""
    inside: list[Markup] = []
    if series.joined:
        path = " ".join(f"{across(one.x):.1f},{up(one.y):.1f}" for one in series.points)
        inside.append(tag("polyline", points=path))
    for point in series.points:
        if series.kind == "guide":
            inside += _guides(point, across, up)
        inside.append(_point(point, across, up, names))
    return tag("g", inside, class_=series.kind)


def _guides(point: Point, across: _Scale, up: _Scale) -> Iterable[Markup]:
    x, y = f"{across(point.x):.1f}", f"{up(point.y):.1f}"
    yield tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM)
    yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)


def _point(point: Point, across: _Scale, up: _Scale, names: _Names) -> Markup:
    x, y = across(point.x), up(point.y)
    bar = None
    if point.error is not None and math.isfinite(point.error):
        ends = [f"{up(point.y + sign * point.error):.1f}" for sign in (-1, 1)]
        bar = tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=ends[0], y2=ends[1])
    dot = tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3.5)
    return tag("g", tag("title", point.told), dot, bar, names.beside(point, x, y))


def _tick(value: float) -> str:
    for power, unit in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:g} {unit}"
    return f"{value:.6g}"
