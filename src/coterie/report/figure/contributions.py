"""The contributions of a record as a picture."""

from pathlib import Path

from coterie.report.schema.record import Record

_AXES = {
    "layer": "layer",
    "attention": "attention block of layer",
    "mlp": "feed-forward block of layer",
    "sublayer": "layer: attention left, feed-forward right",
}


def draw_contributions(record: Record, path: Path) -> None:
    """One bar a player with its 95 % interval, cut ones in another colour; format by suffix.

    A record without contributions has no such picture: nothing is written.
    """
    if record.contributions is None:
        return
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    found = record.contributions
    removed = set(record.cut.removed) if record.cut is not None else set()
    kind = record.model.player_kind
    both = kind == "sublayer"  # two bars a layer, on either side of its number
    places, colours, heights, below, above = [], [], [], [], []
    for player, layer in enumerate(found.layers):
        if (value := layer.value) is not None:
            places.append(layer.layer + (0.4 * (player % 2) - 0.2 if both else 0.0))
            colours.append("#c44536" if player in removed else "#2a6f97")
            heights.append(value)
            below.append(value - (value if layer.low is None else layer.low))
            above.append((value if layer.high is None else layer.high) - value)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.bar(
        places,
        heights,
        0.4 if both else 0.8,
        yerr=[below, above],
        color=colours,
        ecolor="#555555",
        capsize=2,
    )
    axes.set_xlabel(_AXES[kind] + (" (red: cut)" if removed else ""))
    axes.set_ylabel(f"{found.semivalue}\n{found.unit}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None} if path.suffix == ".png" else None)
