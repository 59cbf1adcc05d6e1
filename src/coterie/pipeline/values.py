"""`values`: what every player contributes, without a cut."""

from dataclasses import dataclass
from pathlib import Path

from coterie.pipeline.opening import Progress, Silent, opened, prepare
from coterie.pipeline.record import searched_record
from coterie.pipeline.request import Request
from coterie.pipeline.search import search
from coterie.pipeline.settings import size_asked
from coterie.report.record import Record


@dataclass(frozen=True)
class Result:
    """What a run found. `record` is everything, as `coterie.json` holds it."""

    record: Record

    @property
    def contributions(self) -> list[float | None]:
        """Contribution of each player; None for a locked one; empty where none was estimated."""
        found = self.record.get("contributions")
        return [] if found is None else [layer["value"] for layer in found["layers"]]

    @property
    def kept(self) -> list[int]:
        """Players kept, 0-based; empty where nothing was cut."""
        return self.record["cut"]["kept"] if "cut" in self.record else []

    @property
    def removed(self) -> list[int]:
        """Players cut, 0-based; empty where nothing was cut."""
        return self.record["cut"]["removed"] if "cut" in self.record else []


def values(
    request: Request, *, store: Path | str | None = None, progress: Progress | None = None
) -> Result:
    """Estimate what each player contributes; resumes whatever the store holds already.

    Args:
        store: SQLite file of observations; None is the user's cache.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check(cutting=False)
    progress = progress or Silent()
    prepared = prepare(request, progress=progress)
    with opened(prepared, store=store, progress=progress) as table:
        keep = size_asked(request, table.stack.n_players, table.locked)
        return Result(searched_record("values", table, search(table, keep, progress)))
