"""Names beside points, none of them on top of another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 4.0
"""From a point to its name, in points."""

LINE, LETTER = 1.29, 0.6
"""Height of a line and width of a letter, as shares of the size of the names."""


@dataclass(frozen=True)
class Label:
    """A name, its point in the coordinates of the data, and its colour."""

    text: str
    x: float
    y: float
    colour: str = "black"


def write_labels(
    axes: "Axes", labels: Sequence[Label], size: float = 7.0, most: int | None = None
) -> None:
    """Write names to the upper right of their points, moved up where another stands there.

    A name that would leave the picture on the right stands to the left of its point.

    Args:
        axes: With its scales and limits as they will be.
        labels: The names; the first have the first choice.
        size: Of the letters, in points.
        most: Lines that a name is moved up, at most; those without room are left out. None moves
            them as far as it takes.
    """
    figure = axes.get_figure()
    scale, across, up = 72.0, math.inf, math.inf
    if figure is not None:
        scale = 72.0 / figure.dpi
        across, up = scale * figure.bbox.width, scale * figure.bbox.height
    taken: list[tuple[float, float, float]] = []
    for label in labels:
        x, y = (float(scale * one) for one in axes.transData.transform((label.x, label.y)))
        wide = LETTER * size * len(label.text)
        late = x + GAP + wide > across
        left, low = x - GAP - wide if late else x + GAP, y + GAP
        # From the lowest up: each finds the first free line above its point.
        for start, end, height in sorted(taken, key=lambda one: one[2]):
            if left < end and start < left + wide and abs(height - low) < LINE * size:
                low = height + LINE * size
        if most is not None and (low > y + GAP + most * LINE * size or low + size > up):
            continue
        taken.append((left, left + wide, low))
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(-GAP if late else GAP, low - y),
            textcoords="offset points",
            fontsize=size,
            color=label.colour,
            horizontalalignment="right" if late else "left",
            gid="label",
            parse_math=False,
        )
