"""What was done to a checkpoint after its cut: repair, healing, quantization."""

from collections.abc import Sequence
from itertools import pairwise

from coterie import players as p
from coterie.report import words as w
from coterie.report.figure.points import Axis, Point, Series
from coterie.report.page.elements import (
    Markup,
    bar,
    command_box,
    details,
    facts,
    number,
    section,
    siblings,
    table,
    tag,
)
from coterie.report.page.generation import generation
from coterie.report.page.plot import scatter
from coterie.report.schema.after_cut import AfterPart, LearningPart, RepairPart
from coterie.report.wording.after_cut import MODELS, TITLES, after_rows


def after(parts: Sequence[AfterPart]) -> Markup:
    """A section for everything that was done, in order, and the losses along the way."""
    return siblings(_along(parts) if len(parts) > 1 else None, *map(_part, parts))


def _part(part: AfterPart) -> Markup:
    title = TITLES.get(part.what, part.what)
    shown = [facts(after_rows(part), title), _curve(part.learning)]
    if part.repair is not None:
        shown += [_tried(part.repair), _by_gap(part.repair)]
    whole = section(title, shown, command_box(part.command))
    if part.beside is None:
        return whole
    return siblings(whole, generation(part.beside.generation, MODELS[part.beside.model]))


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
        chosen = " (applied)" if name == repair.name else ""
        rows.append((f"{name}{chosen}", number(loss), number(gained, "{:+.4f}"), bar(gained / top)))
    head = ("repair", "loss on selection texts", "given back", "as a bar")
    return table(head, rows, "Repairs that were tried, nats per token")


def _by_gap(repair: RepairPart) -> Markup | None:
    """What the applied repair gave back at every gap, first to last."""
    found = repair.by_gap
    if found is None or not found.gaps:
        told = (
            "What each gap gave back was not measured; from disk, every gap would take all layers."
        )
        return tag("p", told, class_="note") if repair.changed else None
    losses = [found.as_cut, *(one.loss for one in found.gaps)]
    gained = [before - after for before, after in pairwise(losses)]
    top = max(map(abs, gained)) or 1.0
    rows = [
        (
            p.players([str(layer) for layer in one.gone]),
            number(one.loss),
            number(gain, "{:+.4f}"),
            bar(gain / top),
        )
        for one, gain in zip(found.gaps, gained, strict=True)
    ]
    head = ("layers that went", "loss, repaired up to here", "given back", "as a bar")
    told = (
        f"What each gap gave back, nats per token on {found.sequences} selection texts; as cut"
        f" {number(found.as_cut)}"
    )
    return table(head, rows, told)


def _curve(learning: LearningPart | None) -> Markup | None:
    """The KL to the teacher while it learned, as a picture and as its numbers."""
    if learning is None or not learning.curve:
        return None
    each = learning.tokens / len(learning.curve)
    points = [
        Point(each * (place + 0.5), kl, f"{kl:.4f} after {w.count(each * (place + 0.5))} tokens")
        for place, kl in enumerate(learning.curve)
    ]
    told = "KL to the full model while healing; the table below has the numbers"
    picture = scatter(
        [Series("KL", "other", points, joined=True)],
        Axis("tokens read"),
        Axis("KL to the full model, nats per token"),
        told,
    )
    rows = [(w.count(one.x), number(one.y)) for one in points]
    numbers = table(("tokens read", "KL, nats per token"), rows, "The healing curve")
    return siblings(picture, details("The same as a table", numbers))
