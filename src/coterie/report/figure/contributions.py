"""What the players of a record are worth as a picture: measured alone above, learnt below."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from coterie.report.schema.contributions import AbsencesPart, ContributionsPart
from coterie.report.schema.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTERS = 40
"""Letters of this size that stand beside one panel."""

_AXES = {
    "layer": "layer",
    "attention": "attention block of layer",
    "mlp": "feed-forward block of layer",
    "sublayer": "layer: attention left, feed-forward right",
}


@dataclass(frozen=True)
class _Bar:
    """One player: where it stands, how high, and how far its error reaches below and above."""

    player: int
    layer: int
    height: float
    below: float
    above: float


def draw_contributions(record: Record, path: Path) -> None:
    """One bar a player with its error, cut ones in another colour; format by suffix.

    A record of which nothing is known player by player has no such picture: nothing is written.
    """
    measured = [] if record.absences is None else _of_absences(record.absences)
    learnt = [] if record.contributions is None else _of_contributions(record.contributions)
    if not measured and not learnt:
        return
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    panels = [bars for bars in (measured, learnt) if bars]
    figure = Figure(figsize=(8, 3.2 * len(panels)), layout="constrained")
    for axes, bars in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _draw(axes, bars, record)
        if bars is measured and record.absences is not None:
            # One layer may cost a thousand times another; near nothing the scale is even.
            axes.set_yscale("symlog", linthresh=0.1)
            _name(axes, "loss when it alone is absent", f"{record.absences.unit}, measured")
        elif (found := record.contributions) is not None:
            _name(axes, found.semivalue, found.unit)
    figure.savefig(path, dpi=110, metadata={"Software": None} if path.suffix == ".png" else None)


def _name(axes: "Axes", *lines: str) -> None:
    """Name what is drawn upwards, in lines that are no longer than the panel is high."""
    wrapped = [part for line in lines for part in wrap(line, LETTERS)]
    axes.set_ylabel("\n".join(wrapped), size=8)


def _of_absences(found: AbsencesPart) -> list[_Bar]:
    return [
        _Bar(player, layer.layer, layer.loss, layer.error or 0.0, layer.error or 0.0)
        for player, layer in enumerate(found.layers)
        if layer.loss is not None
    ]


def _of_contributions(found: ContributionsPart) -> list[_Bar]:
    bars = []
    for player, layer in enumerate(found.layers):
        # Unknown players have no bar: a bar of no height would say that they add nothing.
        if (value := layer.value) is not None:
            low, high = (value if end is None else end for end in (layer.low, layer.high))
            bars.append(_Bar(player, layer.layer, value, value - low, high - value))
    return bars


def _draw(axes: "Axes", bars: list[_Bar], record: Record) -> None:
    from matplotlib.ticker import MaxNLocator

    removed = set(record.cut.removed) if record.cut is not None else set()
    kind = record.model.player_kind
    both = kind == "sublayer"  # two bars a layer, on either side of its number
    axes.bar(
        [bar.layer + (0.4 * (bar.player % 2) - 0.2 if both else 0.0) for bar in bars],
        [bar.height for bar in bars],
        0.4 if both else 0.8,
        yerr=[[bar.below for bar in bars], [bar.above for bar in bars]],
        color=["#c44536" if bar.player in removed else "#2a6f97" for bar in bars],
        ecolor="#555555",
        capsize=2,
    )
    # Ticks at layers that are there, and at no other place.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(-0.7, max(bar.layer for bar in bars) + 0.7)
    axes.set_xlabel(_AXES[kind] + (" (red: cut)" if removed else ""))
    axes.spines[["top", "right"]].set_visible(False)
