"""What layers contribute to a mix of utilities and to each of them: its shape as plain JSON."""

from typing import TypedDict

from coterie.report.schema.prune import Record, UtilityPart


class UtilityReport(TypedDict):
    """A whole report of ``coterie values --utility``."""

    record: Record
    """The mix, as any run of `values`."""
    unit: str
    items: int
    parts: list[UtilityPart]
