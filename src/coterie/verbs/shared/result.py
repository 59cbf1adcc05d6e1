"""What a run found, as Python sees it."""

from dataclasses import dataclass

from coterie.plain import Json
from coterie.report.schema.record import Record
from coterie.report.schema.utilities import UtilityReport


@dataclass(frozen=True)
class Result:
    """What a run found. `record` is everything, as `coterie.json` holds it."""

    record: Record
    utilities: UtilityReport | None = None
    """What every part of a mix of utilities says, where contributions were estimated of one."""

    def as_json(self) -> dict[str, Json]:
        """The whole report as plain JSON."""
        return self.record.as_json() if self.utilities is None else self.utilities.as_json()

    @property
    def contributions(self) -> list[float | None]:
        """Contribution of each player, None where it is not known; empty where none was asked."""
        # Plain lists: users of the Python interface need no record to read these.
        found = self.record.contributions
        return [] if found is None else [layer.value for layer in found.layers]

    @property
    def kept(self) -> list[int]:
        """Players kept, 0-based; empty where nothing was cut."""
        return self.record.cut.kept if self.record.cut is not None else []

    @property
    def removed(self) -> list[int]:
        """Players cut, 0-based; empty where nothing was cut."""
        return self.record.cut.removed if self.record.cut is not None else []
