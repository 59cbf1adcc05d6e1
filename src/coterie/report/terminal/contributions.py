"""What players are worth, as tables on a terminal: measured alone, learnt near the cut."""

from math import log1p
from statistics import median

from rich.console import Console
from rich.table import Table

from coterie import players as p
from coterie.report import words as w
from coterie.report.schema.contributions import AbsencesPart, ContributionsPart
from coterie.report.schema.record import Record
from coterie.report.wording.contributions import absences_title, contributions_title

_BAR = 24


def print_absences(record: Record, found: AbsencesPart, out: Console) -> None:
    """Print what each player's absence alone costs, as it was measured.

    Args:
        record: The whole report.
        found: Its measured absences.
        out: Where to print.
    """
    losses = [layer.loss for layer in found.layers if layer.loss is not None]
    # One layer may cost a thousand times another: bars grow with the logarithm.
    usual = median(abs(loss) for loss in losses) or 1.0
    top = max(log1p(abs(loss) / usual) for loss in losses) or 1.0
    table = _table(p.unit(record.model.player_kind), "loss alone", "± texts", "")
    for player, layer in enumerate(found.layers):
        loss = layer.loss
        bar = "" if loss is None else _bar(loss, log1p(abs(loss) / usual) / top)
        table.add_row(
            layer.player,
            w.or_dash(loss, "{:+.4f}"),
            w.or_dash(layer.error, "{:.4f}"),
            _coloured(bar, gone=player in _removed(record)),
        )
    out.print(f"\n[bold]{absences_title(record)}[/bold]")
    out.print(f"[dim]{found.unit} above the full model; bars grow with the logarithm[/dim]")
    out.print(table)


def print_contributions(record: Record, found: ContributionsPart, out: Console) -> None:
    """Print what each player contributes near the cut, or why that is not told.

    Args:
        record: The whole report.
        found: Its contributions.
        out: Where to print.
    """
    values = [layer.value for layer in found.layers if layer.value is not None]
    out.print(f"\n[bold]{contributions_title(record)}[/bold], {found.semivalue}")
    if found.remark is not None:
        out.print(f"[dim]{found.remark}[/dim]")
    if not values:
        return
    # Bars are as long as the largest contribution, whatever its sign.
    top = max(abs(value) for value in values) or 1.0
    table = _table(p.unit(record.model.player_kind), "contribution", "± sampling", "± texts", "")
    for player, layer in enumerate(found.layers):
        value = layer.value
        if value is None:
            # Unknown is not nothing: a dash, and the reason where the model gives one.
            known = "locked" if layer.player in record.model.locked else "–"
            table.add_row(layer.player, known, "–", "–", "")
            continue
        table.add_row(
            layer.player,
            f"{value:.4f}",
            w.or_dash(layer.error_sampling, "{:.4f}"),
            w.or_dash(layer.error_texts, "{:.4f}"),
            _coloured(_bar(value, abs(value) / top), gone=player in _removed(record)),
        )
    out.print(f"[dim]{found.unit}; ± one standard error[/dim]")
    out.print(table)


def _removed(record: Record) -> set[int]:
    return set(record.cut.removed) if record.cut is not None else set()


def _bar(value: float, share: float) -> str:
    # Below nothing it is drawn lighter: the model is better off without.
    return ("█" if value >= 0 else "░") * round(_BAR * share)


def _coloured(bar: str, *, gone: bool) -> str:
    return f"[red]{bar} cut[/red]" if gone else f"[green]{bar}[/green]"


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    return table
