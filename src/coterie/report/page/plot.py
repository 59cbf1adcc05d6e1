"""Pictures of points inside the page: what matplotlib draws, in the colours of the page.

Of matplotlib's SVG the places are kept and the looks are not: groups have classes, and `page.css`
says what they look like, light, dark and on paper. Points say what they are under a pointer.
"""

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from coterie.report.figure.points import LETTERS, Axis, Point, Series, draw_points
from coterie.report.page.elements import Markup, siblings, tag

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 460.0, 310.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 14.0, 14.0, 46.0
"""Of a picture and its margins, in points."""

KINDS = frozenset({"main", "other", "second", "faint", "guide", "grid", "label"})
"""Groups that `page.css` knows."""


class _Drawn(NamedTuple):
    """A picture: its elements, and what its frame reaches from and to."""

    inside: Markup
    frame: str


def scatter(
    series: Sequence[Series], x: Axis, y: Axis, told: str, measure: str | None = None
) -> Markup:
    """The points of some series; nothing where there are none.

    Args:
        series: Later ones are drawn over earlier ones.
        x: The horizontal axis.
        y: The vertical axis.
        told: The picture in a sentence, for those who do not see it.
        measure: What the horizontal axis is for the page's script, which marks the cut on screen:
            ``players``, or the kind of a measure; None marks nothing.
    """
    real = tuple(one for one in (one.real for one in series) if one.points)
    if not real:
        return Markup()
    drawn = _drawn(real, x, y)
    legend = [tag("li", one.name, class_=one.kind) for one in real]
    here = None
    if measure is not None:
        here = tag("circle", tag("title", "the cut on screen"), r=7, class_="here", display="none")
        legend.append(tag("li", "the cut on screen", class_="here"))
    picture = tag(
        "svg",
        drawn.inside,
        here,
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=told,
        class_="plot",
        data_measure=measure,
        data_frame=drawn.frame if measure else None,
    )
    shown = tag("ul", legend, class_="legend") if len(legend) > 1 else None
    return tag("figure", picture, shown)


# A page that is too large is made again with less on it: what stays is not drawn again.
@lru_cache(maxsize=64)
def _drawn(series: tuple[Series, ...], x: Axis, y: Axis) -> _Drawn:
    import matplotlib as mpl
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    file = io.StringIO()
    plain: dict[Any, Any] = {"svg.fonttype": "none", "text.parse_math": False, "font.size": LETTERS}
    with mpl.rc_context(plain), warnings.catch_warnings():
        # The reader's browser has the letters that are missing in the font of this machine.
        warnings.filterwarnings("ignore", "Glyph")
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        axes = figure.add_axes(
            (LEFT / WIDTH, BOTTOM / HEIGHT, across / WIDTH, up / HEIGHT), frameon=False
        )
        figure.patch.set_visible(False)
        # Larger letters on a phone need room between the numbers and the name of the axis.
        axes.yaxis.set_label_coords((1.5 * LETTERS - LEFT) / across, 0.5)
        draw_points(axes, series, x, y)
        figure.savefig(file, format="svg", dpi=72, metadata={"Date": None})
    points = (point for one in series for point in one.points)
    root = ElementTree.fromstring(file.getvalue())
    return _Drawn(siblings(*(_element(one, points) for one in root)), _frame(axes))


def _frame(axes: "Axes") -> str:
    """Values at the ends of both axes, and where these ends are in the picture."""
    places = [LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP]
    return json.dumps([*map(float, (*axes.get_xlim(), *axes.get_ylim())), *places])


def _element(node: ElementTree.Element, points: Iterator[Point]) -> Markup | None:
    """An element of matplotlib's as one of the page, without its looks."""
    name, own = node.tag.rpartition("}")[2], node.attrib
    if name == "use":
        return _dot(own, next(points))
    if name == "path":
        return tag("path", d=" ".join(map(_short, own["d"].split())))
    if name == "text":
        return _text(node)
    if name != "g":  # definitions and provenance
        return None
    inside = siblings(*(_element(one, points) for one in node))
    kind = own.get("id")
    return tag("g", inside, class_=kind) if inside and kind in KINDS else inside


def _dot(own: dict[str, str], point: Point) -> Markup:
    return tag("circle", tag("title", point.told), cx=_short(own["x"]), cy=_short(own["y"]), r=3.5)


def _text(node: ElementTree.Element) -> Markup:
    looks = dict(one.split(": ", 1) for one in node.attrib.get("style", "").split("; ") if one)
    turn = node.attrib.get("transform", "")
    return tag(
        "text",
        node.text or "",
        x=_short(node.attrib["x"]),
        y=_short(node.attrib["y"]),
        text_anchor=looks.get("text-anchor"),
        transform=None if turn.startswith("rotate(-0 ") else turn,
    )


def _short(place: str) -> str:
    """A number with one digit behind its point; a letter, which says what to do, as it is."""
    return place if place.isalpha() else f"{float(place):.1f}"
