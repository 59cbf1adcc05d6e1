"""Names beside points, none of them on top of another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE, LETTER = 9.0, 4.2
"""Height of a line and width of a letter, in points, at the size of these names."""


@dataclass(frozen=True)
class Label:
    """A name, its point in the coordinates of the data, and its colour."""

    text: str
    x: float
    y: float
    colour: str


def write_labels(axes: "Axes", labels: Sequence[Label]) -> None:
    """Write names to the upper right of their points, moved up where another stands there.

    Args:
        axes: With its scales and limits as they will be.
        labels: The names.
    """
    figure = axes.get_figure()
    scale = 72.0 / (figure.dpi if figure is not None else 72.0)
    taken: list[tuple[float, float, float]] = []
    for label in sorted(labels, key=lambda one: one.y):
        left, bottom = (float(scale * one) for one in axes.transData.transform((label.x, label.y)))
        wide, low = LETTER * len(label.text), bottom + 4
        # From the lowest up: each finds the first free line above its point.
        for start, end, height in sorted(taken, key=lambda one: one[2]):
            if left < end and start < left + wide and abs(height - low) < LINE:
                low = height + LINE
        taken.append((left, left + wide, low))
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(4, low - bottom),
            textcoords="offset points",
            fontsize=7,
            color=label.colour,
        )
