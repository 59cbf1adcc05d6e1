"""Zeros inside layers: what each unit was given, and what it contributes."""

from coterie.report.page.elements import Markup, bar, facts, number, section, table
from coterie.report.schema.sparsify import SparsityRecord
from coterie.report.wording.sparsify import RUNTIMES, inputs_judged


def sparse(record: SparsityRecord) -> Markup:
    """The share of zeros of every unit as a bar beside its number."""
    found = record.sparsity
    rows = []
    for unit in found.units:
        shown = "cut" if unit.cut else number(unit.realised)
        rows.append(
            (unit.unit, number(unit.contribution), number(unit.asked), shown, bar(unit.realised))
        )
    head = ("unit", f"contribution ({found.contributions or 'none'})", "zeros asked", "zeros there")
    told = [
        ("zeros", f"{found.zeros:,} of {found.weights:,} weights"),
        ("shared out by", found.allocation),
        ("pruned by", found.pruner),
        ("judged on", inputs_judged(found)),
    ]
    whole = table((*head, "as a bar"), rows, "Zeros in each unit", sortable=True)
    return section("Zeros in each unit", facts(told, "Zeros"), whole, note=RUNTIMES)
