"""Speed against quality as a picture."""

from pathlib import Path

from coterie.report.schema.bench import SpeedReport


def draw_quality(found: SpeedReport, path: Path) -> None:
    """Held-out perplexity against decoding speed, one point a model; format by suffix."""
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    first = (found.rows[0].batch, found.rows[0].context)
    rows = [row for row in found.rows if (row.batch, row.context) == first]
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        # A model that was not judged has no place on the second axis.
        quality = found.quality.get(row.name)
        if quality is None or quality.mean is None:
            continue
        at = row.decode_tokens_per_second, quality.mean
        colour = "#c44536" if place else "#2a6f97"
        # The first model is the one compared with: in another colour.
        axes.errorbar(*at, yerr=quality.error or 0.0, fmt="o", color=colour, capsize=2)
        axes.annotate(row.name, at, textcoords="offset points", xytext=(6, 5), fontsize=9)
    axes.set_xlabel(f"decoded tokens per second (batch {first[0]}, context {first[1]})")
    axes.set_ylabel("held-out perplexity")
    axes.margins(0.15)
    axes.spines[["top", "right"]].set_visible(False)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=110, metadata=metadata)
