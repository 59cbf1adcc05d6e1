"""A record as tables on a terminal."""

from rich.console import Console
from rich.table import Table

from coterie import players as p
from coterie.report import words as w
from coterie.report.schema.basics import ClosestPart, StreamPart, TextPart
from coterie.report.schema.contributions import AgreementPart, ContributionsPart, FidelityPart
from coterie.report.schema.part import known
from coterie.report.schema.record import Record
from coterie.report.terminal.cluster import cluster_rows
from coterie.report.terminal.contributions import print_absences, print_contributions
from coterie.report.terminal.generation import print_generation, print_warning
from coterie.report.terminal.pairs import print_pairs
from coterie.report.terminal.plan import print_plan
from coterie.report.terminal.search import print_search
from coterie.report.wording.serving import served
from coterie.report.wording.standing import advice, standing


def print_record(record: Record, console: Console | None = None, *, verbose: bool = False) -> None:
    """Print what the record holds: verdict, layers, finalists, contributions, cost.

    Args:
        record: Of a run, or of a plan.
        console: Where to print; by default the terminal.
        verbose: Also the model and the texts, how faithful the surrogate is, and all of the cost.
    """
    out = console or Console(highlight=False)
    # A plan has nothing else to print.
    if record.kind == "plan":
        return print_plan(record, out)
    # The verdict first, in words: everything else explains it.
    now, verdict = standing(record), record.verdict
    if verdict is not None and now is not None:
        out.print(f"\n[bold]{advice(now)}[/bold]")
        if record.after and verdict.sentence is not None:
            out.print(f"[dim]As it was cut: {verdict.sentence}[/dim]")
        print_warning(now.generation, now.ratio, out)
    if record.kind == "prune":
        _verdict(record, out)
    # The choice between finalists, and what else a search can tell.
    print_search(record, out)
    if record.absences is not None:
        print_absences(record, record.absences, out)
    if (found := record.contributions) is not None:
        print_contributions(record, found, out)
    # A search that observed little has finalists and no contributions.
    elif record.choice is not None:
        out.print("\n[dim]Too little was observed to tell what each player contributes.[/dim]")
    if verbose:
        _model(record, out)
        if (fidelity := record.fidelity) is not None:
            _fidelity(record, fidelity, out)
        _budget(record, out)
    else:
        _shortly(record, out)
    return None


def _shortly(record: Record, out: Console) -> None:
    """What it took, in one line, and anything that must not go unsaid."""
    spent = known(record.budget)
    lasted = w.seconds(sum(spent.seconds.values()))
    new = "" if not spent.known else f", {spent.known:,} known before"
    out.print(f"\n[dim]{spent.distinct:,} coalitions{new}; {lasted}; -v tells more[/dim]")
    if spent.not_finite:
        out.print(f"{spent.not_finite} observations were not finite and read as the floor")
        if broken := record.breakdowns:
            out.print(f"the first: {broken[0]}")


def _model(record: Record, out: Console) -> None:
    model, search = record.model, record.search
    made_of = f"{model.architecture}, {model.players} {_units(record)}"
    rows = [
        ("model", f"{model.name} ({made_of})"),
        # The commit where there is one; a local folder is known by its weights.
        ("weights", w.short_hash(model.revision or model.fingerprint)),
        ("search in", f"{search.dtype} on {search.device} ({search.dtype_reason})"),
        ("engine", search.mode),
        ("calibration", _text(record.calibration)),
    ]
    if record.held_out is not None:
        rows.append(("held-out", _text(record.held_out)))
    # A locked player is told with its reason: users ask why it stayed.
    rows += [(f"{p.named(label)} locked", why) for label, why in model.locked.items()]
    print_pairs(rows, out, "Model and texts")


def _units(record: Record) -> str:
    return p.unit(record.model.player_kind, plural=True)


def _text(text: TextPart) -> str:
    bos = "BOS first" if text.bos else "no BOS"
    return (
        f"{text.description}: {text.sequences} × {text.length} tokens "
        f"of {text.documents} documents, {bos}"
    )


def _fidelity(record: Record, fidelity: FidelityPart, out: Console) -> None:
    rows = [("overall", _faith(fidelity.overall))]
    units = _units(record)
    rows += [(f"{size} {units} kept", _faith(part)) for size, part in fidelity.by_size.items()]
    requested = fidelity.requested
    # Drawn for this: no stratum had the requested size.
    if requested is not None and str(fidelity.requested_size) not in fidelity.by_size:
        rows.append(
            (f"{fidelity.requested_size} {units} kept", f"{_faith(requested)}, drawn for this")
        )
    print_pairs(rows, out, f"Surrogate, held-out fidelity ({fidelity.how})")


def _faith(part: AgreementPart) -> str:
    return (
        f"R² {w.or_dash(part.r2)}, Spearman {w.or_dash(part.spearman)} "
        f"on {part.coalitions} coalitions"
    )


def _verdict(record: Record, out: Console) -> None:
    cut, verdict, size = known(record.cut), known(record.verdict), known(record.size)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "before", "after", "change"):
        table.add_column(name, justify="left" if not name else "right")
    # Perplexity, loss and size, in the order people ask for them.
    before, after, change = verdict.before, verdict.after, verdict.difference
    table.add_row(
        "held-out perplexity",
        f"{before.perplexity:.3f} ± {w.or_dash(before.error)}",
        f"{after.perplexity:.3f} ± {w.or_dash(after.error)}",
        f"×{verdict.ratio:.3f}",
    )
    table.add_row(
        "loss, nats per token",
        f"{before.nll:.4f}",
        f"{after.nll:.4f}",
        f"{change.nll:+.4f} ± {w.or_dash(change.error, '{:.4f}')} (paired)",
    )
    agreed = "–" if verdict.top1 is None else f"{verdict.top1:.1%}"
    table.add_row("KL to the full model", "", f"{w.or_dash(verdict.kl, '{:.4f}')} nats per token")
    table.add_row("same first choice", "", agreed)
    # Counts and bytes share one line of code; only their units differ.
    for name, old, new, pattern in (
        ("parameters", size.parameters_before, size.parameters_after, w.count),
        ("bytes on disk", size.bytes_before, size.bytes_after, w.size),
    ):
        table.add_row(name, pattern(old), pattern(new), f"{(new - old) / old:+.1%}")
    out.print("\n[bold]Verdict[/bold]")
    out.print(table)
    rows = [
        ("cut", p.players(cut.removed_labels)),
        ("kept", p.players(cut.kept_labels)),
    ]
    # A closest call exists only where players were ranked.
    found, call = record.contributions, cut.closest
    if found is not None and call is not None:
        rows.append(("closest call", _closest(found, call)))
    rows.append(("reloaded", str(known(record.verification)["summary"])))
    # Records that were written before say it of block cuts alone.
    if record.serving is not None:
        rows += served(record.serving)
    elif record.runtimes is not None:
        rows.append(("loads in", "; ".join(record.runtimes)))
    if verdict.not_finite:
        rows.append(("not finite", f"{verdict.not_finite} held-out losses read as the floor"))
    print_pairs(rows, out, f"{_units(record).capitalize()} (0-based)")
    if verdict.generation is not None:
        print_generation(verdict.generation, out)


def _closest(found: ContributionsPart, call: ClosestPart) -> str:
    kept, gone = (p.named(found.layers[player].player) for player in (call.kept, call.removed))
    told = f"{kept} kept, {gone} cut: they differ by {call.difference:.4f} ± {call.error:.4f}"
    # Within two standard errors the order of the two may be chance.
    if call.difference < 2 * call.error:
        told += ", which does not tell them apart; a larger --budget might"
    return told


def _budget(record: Record, out: Console) -> None:
    spent = known(record.budget)
    rows = [
        ("distinct coalitions", f"{spent.distinct:,} ({spent.known:,} known before)"),
        ("layer-tokens asked", w.count(spent.layer_tokens_asked)),
        ("layer-tokens executed", w.count(spent.layer_tokens_executed)),
        ("head-tokens", w.count(spent.head_tokens)),
        # Seconds by what they were spent on.
        ("time", ", ".join(f"{k} {w.seconds(v)}" for k, v in spent.seconds.items())),
    ]
    if spent.not_finite:
        rows.append(("not finite", f"{spent.not_finite} observations read as the floor"))
    if broken := record.breakdowns:
        rows.append(("the first", broken[0]))
    if (stream := record.streaming) is not None:
        rows += streamed(stream)
    if (cluster := record.cluster) is not None:
        rows += cluster_rows(cluster)
    print_pairs(rows, out, "Cost")


def streamed(stream: StreamPart) -> list[tuple[str, str]]:
    """What was read from disk, and what was checked before it was believed."""
    # Reading that computing hid costs no time.
    hidden = 1 - stream.seconds_waiting / max(stream.seconds_reading, 1e-9)
    told = f"{w.size(stream.bytes_read)} in {stream.passes:,} passes over the layers, "
    told += f"{w.size(stream.bytes_per_coalition)} per coalition; {max(0.0, hidden):.0%} hidden"
    rows = [("read from disk", told), ("streaming checked", stream.checked)]
    if stream.bytes_spilled:
        rows.append(("states in files", w.size(stream.bytes_spilled)))
    return rows
