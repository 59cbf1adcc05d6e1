"""A comparison as a picture: held-out loss over cost, one panel per number of layers removed."""

from pathlib import Path

from coterie.report.figure.labels import Label, write_labels
from coterie.report.schema.compare import Comparison
from coterie.report.wording.compare import best_first, removals

# The two methods that are ours, in colour; all others in one grey.
_OURS = {"paper": "#2a6f97", "guided": "#c44536"}


def draw_comparison(found: Comparison, path: Path) -> None:
    """Loss over layer-tokens asked, with paired errors against the best; format by suffix."""
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    sizes = removals(found)
    figure = Figure(figsize=(4.4 * len(sizes), 4.2), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    named: list[list[Label]] = []
    for axes, removed in zip(panels, sizes, strict=True):
        labels: list[Label] = []
        named.append(labels)
        for row in best_first(found, removed):
            # A gap has no numbers; the table names its reason.
            if row.gap is not None or row.cost is None:
                continue
            cost = row.cost
            # Backward passes are about two forward ones.
            work = cost.layer_tokens_asked + 2 * cost.backward_layer_tokens
            part = row.held_out[0]
            loss, error = part.against_full.mean, part.against_best.error
            colour = _OURS.get(row.method, "#777777")
            # Cost may be nothing, and the axis is logarithmic.
            place = max(work, 1.0)
            axes.errorbar([place], [loss], yerr=[error or 0.0], fmt="o", color=colour, capsize=2)
            labels.append(Label(row.title, place, loss, colour))
        axes.set_xscale("log")
        axes.set_title(f"{removed} of {found.layers} layers removed", fontsize=9)
        axes.set_xlabel("layer-tokens asked (backward passes twice)", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.draw_without_rendering()  # limits and layout are final from here on
    for axes, labels in zip(panels, named, strict=True):
        write_labels(axes, sorted(labels, key=lambda one: one.y))
    length = found.held_out[0].length
    panels[0].set_ylabel(f"held-out loss − full model's, nats per token\nlength {length}")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
