"""The contributions of a record as a picture."""

from pathlib import Path

from coterie.report.record import Record


def draw_contributions(record: Record, path: Path) -> None:
    """One bar a layer with its 95 % interval, cut layers in another colour; format by suffix."""
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    found = record["contributions"]
    removed = set(record["cut"]["removed"]) if "cut" in record else set()
    places, heights, below, above = [], [], [], []
    for layer in found["layers"]:
        if (value := layer["value"]) is not None:
            places.append(layer["layer"])
            heights.append(value)
            below.append(value - (value if layer["low"] is None else layer["low"]))
            above.append((value if layer["high"] is None else layer["high"]) - value)
    colours = ["#c44536" if place in removed else "#2a6f97" for place in places]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.bar(places, heights, yerr=[below, above], color=colours, ecolor="#555555", capsize=2)
    axes.set_xlabel("layer (red: cut)")
    axes.set_ylabel(f"{found['semivalue']}\n{found['unit']}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None} if path.suffix == ".png" else None)
