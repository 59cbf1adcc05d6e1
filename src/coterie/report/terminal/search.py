"""What a search found, as tables on a terminal: finalists, the front, stability, interactions."""

from rich.console import Console
from rich.table import Table

from coterie import players as p
from coterie.report import words as w
from coterie.report.schema.contributions import InteractionsPart, StabilityPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import ChoicePart, SizeChoicePart, TargetPart

MOST_PAIRS = 12
"""Interactions shown: those furthest from nothing, in their own standard errors."""

NATS = "nats per token"


def print_search(record: Record, out: Console) -> None:
    """Print those of the parts that the record has."""
    if record.choice is not None:
        _choice(record.choice, record, out)
    # A target tells what was asked, allowed and reached.
    if record.target is not None:
        _target(record.target, out)
    if record.stability is not None:
        _stability(record.stability, out)
    if record.interactions is not None:
        _interactions(record.interactions, out)


def _choice(choice: ChoicePart, record: Record, out: Console) -> None:
    # Without a cut the whole front is printed.
    cut = record.cut.removed if record.cut is not None else None
    where = f"{choice.sequences} sequences of {choice.documents} documents, the "
    where += "calibration and second texts" if choice.second else "calibration texts alone"
    # A mix decided on its own items; the texts above were not asked.
    if choice.unit is not None:
        where = f"the {choice.sequences} items and sequences that the search asked about"
        if choice.decided_apart:
            where = f"{choice.sequences} items and sequences that chose nothing"
    here = [one for one in choice.sizes if cut is None or one.removed == cut]
    # One size: its finalists. Several: the winner of each.
    if len(here) == 1:
        _finalists(here[0], choice.unit or NATS, out)
    else:
        _front(here, choice.unit or NATS, out)
        inside = "each coalition lies inside the next larger one"
        if not choice.nested:
            inside = "not every coalition lies inside the next larger one"
        out.print(f"[dim]{inside}[/dim]")
    out.print(f"[dim]by {record.search.method}; decided on {where}[/dim]")
    if choice.comparisons:
        many = "coalition was" if choice.comparisons == 1 else "coalitions were"
        out.print(f"[dim]{choice.comparisons:,} {many} compared to choose[/dim]")
    if choice.remark:
        out.print(f"[dim]{choice.remark}[/dim]")
    if choice.out_of_time:
        out.print("[dim]the time ended the search: the best known by then was chosen[/dim]")


def _finalists(here: SizeChoicePart, unit: str, out: Console) -> None:
    table = _table("finalist", "behind the winner", "cut")
    for one in here.finalists:
        behind = f"{one.behind:.4f} ± {w.or_dash(one.error, '{:.4f}')}"
        table.add_row(one.method, behind, p.players(one.removed_labels))
    out.print("\n[bold]Finalists[/bold]")
    excess = f"{here.excess:+.4f} ± {w.or_dash(here.error, '{:.4f}')}"
    out.print(f"[dim]{unit}, paired by document; the winner is {excess} from the full model[/dim]")
    out.print(table)


def _front(sizes: list[SizeChoicePart], unit: str, out: Console) -> None:
    table = _table("kept", "above the full model", "found by", "cut")
    for one in sizes:
        excess = f"{one.excess:+.4f} ± {w.or_dash(one.error, '{:.4f}')}"
        removed = p.players(one.removed_labels)
        table.add_row(str(one.size), excess, one.method, removed)
    out.print("\n[bold]The best coalition of every size[/bold]")
    out.print(f"[dim]{unit}, paired by document[/dim]")
    out.print(table)


def _target(target: TargetPart, out: Console) -> None:
    before, most, after = (
        # Seconds are small and counts are large: each in its own form.
        f"{amount:.4g}" if target.unit == "seconds" else w.count(amount)
        for amount in (target.before, target.most, target.after)
    )
    option = f"--{target.name.replace('_', '-')} {target.asked:g}"
    out.print(f"\n{option}: {before} {target.unit} before, {most} allowed, {after} remain")


def _stability(found: StabilityPart, out: Console) -> None:
    table = _table("between", "runs", "ranks, Spearman", "cut sets, Jaccard")
    for part in found.overlaps:
        # Contributions may have no rank correlation, where all are equal.
        ranks = [rank for rank in part.ranks if rank is not None]
        table.add_row(part.over, str(part.runs), _spread(ranks), _spread(part.cuts))
    out.print(f"\n[bold]Stability of cutting {found.removed} by {found.method}[/bold]")
    out.print("[dim]mean (lowest) over every two runs[/dim]")
    out.print(table)


def _spread(numbers: list[float]) -> str:
    return f"{sum(numbers) / len(numbers):.3f} ({min(numbers):.3f})" if numbers else "–"


def _interactions(found: InteractionsPart, out: Console) -> None:
    def clear(pair_value: float | None, error: float | None) -> float:
        # Distance from nothing in standard errors; an unknown error makes it unclear.
        return abs(pair_value or 0.0) / (error or float("inf"))

    pairs = sorted(found.pairs, key=lambda pair: -clear(pair.value, pair.error_sampling))
    table = _table("players", "interaction", "± sampling", "± texts", "")
    for pair in pairs[:MOST_PAIRS]:
        value = pair.value
        table.add_row(
            " and ".join(pair.labels),
            w.or_dash(value, "{:+.4f}"),
            w.or_dash(pair.error_sampling, "{:.4f}"),
            w.or_dash(pair.error_texts, "{:.4f}"),
            "stand in for each other" if (value or 0.0) < 0 else "need each other",
        )
    out.print(f"\n[bold]The clearest of {len(pairs)} interactions[/bold], {found.name}")
    out.print(f"[dim]{found.unit}; ± one standard error[/dim]")
    out.print(table)


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for number, name in enumerate(names):
        # Words to the left, numbers to the right.
        table.add_column(name, justify="left" if number in (0, len(names) - 1) else "right")
    return table
