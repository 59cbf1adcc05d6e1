"""Who is best in a comparison, and in which order rows are shown."""

from coterie.report.schema.compare import Comparison, RowPart


def removals(found: Comparison) -> list[int]:
    """The numbers of layers removed, ascending."""
    return sorted({row.removed for row in found.rows})


def best_first(found: Comparison, removed: int) -> list[RowPart]:
    """The rows of one number removed, lowest loss on the first length first, gaps last."""
    rows = [row for row in found.rows if row.removed == removed]
    return sorted(
        rows,
        # Gaps have no loss and go last.
        key=lambda row: row.held_out[0].nll.mean if row.held_out else float("inf"),
    )


def who_is_best(found: Comparison) -> list[str]:
    """A sentence for every number of layers removed and every held-out text."""
    told = []
    for removed in removals(found):
        for place, text in enumerate(found.held_out):
            rows = [row for row in best_first(found, removed) if row.held_out]
            best = [row.title for row in rows if row.held_out[place].best]
            tied = [row.title for row in rows if row.held_out[place].tied]
            # Where every method failed nobody is best.
            if best:
                line = f"{removed} removed, length {text.length}: {best[0]} is best"
                told.append(line + (f"; not told apart: {', '.join(tied)}" if tied else ""))
    return told
