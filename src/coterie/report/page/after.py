"""What was done to a checkpoint after its cut: repair, healing, quantization."""

from collections.abc import Sequence

from coterie.report.page.elements import Markup, command, facts, section, table, tag, together
from coterie.report.schema.after_cut import AfterPart, RepairPart
from coterie.report.wording.after_cut import TITLES, after_rows


def after(parts: Sequence[AfterPart]) -> Markup:
    """A section for everything that was done, in order, and the losses along the way."""
    return together(_along(parts) if len(parts) > 1 else None, *map(_part, parts))


def _part(part: AfterPart) -> Markup:
    title = TITLES.get(part.what, part.what)
    tried = None if part.repair is None else _tried(part.repair)
    return section(title, facts(after_rows(part), title), tried, command(part.command))


def _along(parts: Sequence[AfterPart]) -> Markup:
    rows = [
        (
            TITLES.get(part.what, part.what),
            f"{part.before.perplexity:.3f}",
            f"{part.after.perplexity:.3f}",
            f"{part.difference.nll:+.4f}",
        )
        for part in parts
    ]
    head = ("what", "perplexity before", "after", "change, nats per token")
    return section("After the cut", table(head, rows, "Held-out perplexity, step by step"))


def _tried(repair: RepairPart) -> Markup | None:
    """What every repair that was tried gave back, as bars beside their numbers."""
    losses = {"as cut": repair.as_cut, **repair.tried}
    if len(losses) < 2:
        return None
    top = max(abs(loss - repair.as_cut) for loss in losses.values()) or 1.0
    rows = []
    for name, loss in losses.items():
        gained = repair.as_cut - loss
        width = f"width:{100 * max(gained, 0.0) / top:.1f}%"
        bar = tag("span", tag("span", class_="fill", style=width), class_="track")
        chosen = " (applied)" if name == repair.name else ""
        rows.append((f"{name}{chosen}", f"{loss:.4f}", f"{gained:+.4f}", bar))
    head = ("repair", "loss on selection texts", "given back", "")
    return table((*head[:3], "as a bar"), rows, "Repairs that were tried, nats per token")
