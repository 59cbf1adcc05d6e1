"""The record of a sparse checkpoint as tables on a terminal."""

from rich.console import Console
from rich.table import Table

from coterie.report import words as w
from coterie.report.schema.part import known
from coterie.report.schema.sparsify import SparsityRecord
from coterie.report.terminal.cluster import cluster_rows
from coterie.report.terminal.generation import print_generation, print_warning
from coterie.report.terminal.prune import streamed
from coterie.report.wording.sparsify import RUNTIMES, inputs_judged, sequences_of, sparsity_asked

_BAR = 24


def print_sparsity(record: SparsityRecord, console: Console | None = None) -> None:
    """Print what the record holds: sparsities, verdict, cost."""
    out = console or Console(highlight=False)
    sparse, model = record.sparsity, record.model
    out.print(
        f"\n[bold]{model.name}[/bold] ({model.architecture}), {sparsity_asked(sparse)}, "
        f"{sparse.allocation}, {sparse.pruner}, {record.dtype}"
    )
    if sparse.contributions:
        out.print(f"[dim]{sparse.contributions}[/dim]")
    table = Table(box=None, padding=(0, 2, 0, 0))
    # The last column holds bars and has no name.
    for name in ("unit", "contribution", "asked", "realised", ""):
        table.add_column(name, justify="left" if not name else "right")
    for unit in sparse.units:
        # A cut unit is wholly zero: a full bar would look like a sparse one.
        bar = "[red]cut[/red]" if unit.cut else "█" * round(_BAR * unit.realised)
        table.add_row(
            unit.unit,
            w.or_dash(unit.contribution, "{:.4f}"),
            f"{unit.asked:.4f}",
            f"{unit.realised:.4f}",
            bar,
        )
    out.print(table)
    _verdict(record, out)
    spent = record.cost
    out.print(
        f"\n[bold]Cost[/bold]\n{spent.coalitions:,} coalitions, "
        f"{w.count(spent.layer_tokens_asked)} layer-tokens asked; "
        + ", ".join(f"{k} {w.seconds(v)}" for k, v in spent.seconds.items())
    )
    # Only where weights were read from disk.
    if (stream := record.streaming) is not None:
        for what, told in streamed(stream):
            out.print(f"{what}: {told}")
    if (cluster := record.cluster) is not None:
        for what, told in cluster_rows(cluster):
            out.print(f"{what}: {told}")
    out.print(f"[dim]{RUNTIMES}[/dim]")


def _verdict(record: SparsityRecord, out: Console) -> None:
    sparse, verdict = record.sparsity, known(record.verdict)
    before, after, change = verdict.before, verdict.after, verdict.difference
    out.print("\n[bold]Verdict[/bold]")
    out.print(f"held-out: {sequences_of(record.held_out)}")
    out.print(
        f"perplexity {before.perplexity:.3f} ± {w.or_dash(before.error)} before, "
        f"{after.perplexity:.3f} ± {w.or_dash(after.error)} after (×{verdict.ratio:.3f})"
    )
    out.print(
        f"loss {change.nll:+.4f} ± {w.or_dash(change.error, '{:.4f}')} nats per token, paired"
    )
    agreed = "–" if verdict.top1 is None else f"{verdict.top1:.1%}"
    kl = w.or_dash(verdict.kl, "{:.4f}")
    out.print(f"KL to the full model {kl} nats per token, same first choice {agreed}")
    if verdict.generation is not None:
        print_warning(verdict.generation, verdict.ratio, out)
        print_generation(verdict.generation, out)
    out.print(
        f"zeros {sparse.zeros:,} of {sparse.weights:,} weights in linear maps; asked "
        f"{sparse.asked:.6f}, realised {sparse.realised:.6f}"
    )
    # Only Hessians are damped; other pruners have none.
    if sparse.damping is not None:
        out.print(f"Hessians damped by up to {sparse.damping:g} of their mean diagonal")
    if (pruning := record.pruning) is not None and sparse.judged_on is not None:
        out.print(f"measured on: {sequences_of(pruning)}")
    out.print(inputs_judged(sparse))
    out.print(f"reloaded: {known(record.verification)['summary']}")
