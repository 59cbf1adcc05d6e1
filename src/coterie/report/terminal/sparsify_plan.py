"""What a sparse checkpoint would take, as tables on a terminal."""

from rich.console import Console
from rich.table import Table

from coterie import players as p
from coterie.report import words as w
from coterie.report.schema.sparsify_plan import SparsityPlan, UnitSizePart


def print_sparsity_plan(plan: SparsityPlan, console: Console | None = None) -> None:
    """Print what would be done, part by part."""
    out = console or Console(highlight=False)
    model = plan.model
    # A pattern such as 2:4 fixes the share by itself.
    asked = plan.pattern or format(plan.target, ".0%")
    out.print(f"\n[bold]{model.name}[/bold] ({model.architecture}), {asked} sparse")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for row in _rows(plan):
        table.add_row(*row)
    out.print("\n[bold]Plan, at most (nothing was written)[/bold]")
    out.print(table)


def _rows(plan: SparsityPlan) -> list[tuple[str, str]]:
    # Bounds of the units may forbid the target: said first.
    least, most = plan.reachable
    rows = [("reachable", f"{least:g} to {most:g} of all weights in linear maps")]
    rows += [("units", _sizes(plan.units))]
    if (game := plan.contributions) is None:
        rows.append(("contributions", "none are needed"))
    else:
        rows += [
            ("contributions", game.how),
            ("  coalitions", f"{game.coalitions:,} ({game.known:,} known already)"),
            ("  layer executions", f"{game.layer_executions:,} × {_texts(plan)} sequences"),
            ("  layer-tokens asked", w.count(game.layer_tokens_asked)),
            ("  layer-tokens to run", w.count(game.layer_tokens_executed)),
        ]
    # Comparing allocations asks the model too.
    if (sharing := plan.sharing) is not None:
        asked = sharing.layer_tokens + sharing.measuring_layer_tokens
        told = f"{sharing.what}, {w.count(asked)} layer-tokens asked"
        rows.append(("sharing out", told))
    rows += [
        ("pruning", _pruning(plan)),
        ("judging", f"{w.count(plan.judging_layer_tokens)} layer-tokens, before and after"),
        ("memory", f"{w.size(plan.memory_bytes)} (weights and states of the game)"),
        ("  to prune", f"{w.size(plan.pruning_memory_bytes)} beside the weights, at most"),
        ("disk", f"{w.size(plan.disk_bytes)} for the checkpoint, as large as its source"),
        ("  for a while", f"{w.size(plan.temporary_bytes)} of temporary files, at most"),
        ("estimated time", f"{w.seconds(plan.seconds)} of running layers, the pruner's own not"),
    ]
    if plan.pass_bytes is not None:
        rows.append(("read from disk", f"{w.size(plan.pass_bytes)} of layers for every pass"))
    return rows


def _pruning(plan: SparsityPlan) -> str:
    told = f"{w.count(plan.pruning_layer_tokens)} layer-tokens"
    # Nothing is measured where a pruner looks at weights alone.
    if (texts := plan.pruning) is None:
        return told
    return f"{told}, on {texts.sequences:,} × {texts.length} tokens of calibration text"


def _sizes(units: list[UnitSizePart]) -> str:
    """Unit sizes, equal ones together: `0-7: 1.05 M each`."""
    # Equal layers are told together: a model of eighty would fill the screen.
    by_size: dict[int, list[str]] = {}
    for unit in units:
        by_size.setdefault(unit.weights, []).append(unit.unit)
    told = [f"{p.players(named)}: {w.count(weights)}" for weights, named in by_size.items()]
    return "; ".join(told) + " weights each"


def _texts(plan: SparsityPlan) -> int:
    return plan.calibration.sequences
