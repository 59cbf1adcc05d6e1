"""What layers contribute to a mix of utilities and to each of them: its shape as plain JSON."""

from dataclasses import dataclass

from coterie.report.schema.part import Part
from coterie.report.schema.record import Record
from coterie.report.schema.search import UtilityPart


@dataclass(frozen=True)
class UtilityReport(Part):
    """A whole report of ``coterie values --utility``."""

    # The mix first: a printer of records can print it as it is.
    record: Record
    """The mix, as any run of `values`."""
    unit: str
    items: int
    parts: list[UtilityPart]
