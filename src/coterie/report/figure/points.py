"""Points in a plane: several series with errors and names, drawn with matplotlib."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from coterie.report.figure.labels import Label, write_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as DrawnAxis

LARGE = 1000.0
"""Values from here on are written with a prefix: 35 k, 12 M."""

LETTERS = 11.0
"""Size of all letters, in points."""

LINES = 2
"""Lines that a name is moved away from its point, at most; one with no room is left out."""


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
        kind: ``main``, ``other``, ``second``, ``faint`` or ``guide``; guides are dashed lines
            across the picture through their points, for what others are held against.
        points: The points.
        joined: A line leads from each to the next.
    """

    name: str
    kind: str
    points: Sequence[Point]
    joined: bool = False

    @property
    def real(self) -> "Series":
        """The same with those points alone that have a place."""
        known = [one for one in self.points if math.isfinite(one.x) and math.isfinite(one.y)]
        return replace(self, points=tuple(known))


@dataclass(frozen=True)
class Axis:
    """What an axis shows.

    Attributes:
        label: With its unit.
        log: Whether equal steps are equal factors.
        most: Values above it are drawn at the edge; None draws all.
        unit: Written behind the numbers.
    """

    label: str
    log: bool = False
    most: float | None = None
    unit: str = ""

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        return value if self.most is None else min(value, self.most)


def draw_points(axes: "Axes", series: Sequence[Series], x: Axis, y: Axis) -> None:
    """Draw series, later ones over earlier ones; what belongs to one has its kind as group id.

    Args:
        axes: Empty, of a figure that changes neither its size nor its margins any more.
        series: Points that have a place.
        x: The horizontal axis.
        y: The vertical axis.
    """
    for one in series:
        _draw(axes, one, y)
    points = [point for one in series for point in one.points]
    axes.set(xscale="log" if x.log else "linear", yscale="log" if y.log else "linear")
    _scale(axes.xaxis, x, [point.x for point in points])
    _scale(axes.yaxis, y, [point.y for point in points])
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # limits and ticks are final from here on
    for line in axes.get_ygridlines():
        line.set_gid("grid")
    # The last series lies on top, so that its names come first where room is short.
    named = [(point, y.at(point.y)) for one in reversed(series) for point in one.points]
    labels = [Label(_plain(one.name), one.x, at) for one, at in named if one.name is not None]
    write_labels(axes, labels, LETTERS, most=LINES)


def _draw(axes: "Axes", series: Series, y: Axis) -> None:
    across = [one.x for one in series.points]
    up = [y.at(one.y) for one in series.points]
    # Nothing is cut off at the frame: points at its edge are whole, and bars end there.
    how: dict[str, Any] = {"gid": series.kind, "clip_on": False}
    axes.plot(across, up, "o-" if series.joined else "o", **how)
    bars = [one for one in series.points if one.error is not None and math.isfinite(one.error)]
    axes.vlines(
        [one.x for one in bars],
        [y.at(one.y - (one.error or 0.0)) for one in bars],
        [y.at(one.y + (one.error or 0.0)) for one in bars],
        **how,
    )
    if series.kind == "guide":
        for place, height in zip(across, up, strict=True):
            axes.axvline(place, **how)
            axes.axhline(height, **how)


def _scale(axis: "DrawnAxis", what: Axis, values: Iterable[float]) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

    whole = all(float(value).is_integer() for value in values)
    axis.set_label_text(what.label)
    if what.log:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=whole))
    if max(map(abs, axis.get_view_interval())) >= LARGE:
        axis.set_major_formatter(EngFormatter(what.unit, sep="\N{NO-BREAK SPACE}"))


def _plain(name: str) -> str:
    """A name without letters that cannot be written into a file."""
    return "".join(one if one.isprintable() else " " for one in name)
