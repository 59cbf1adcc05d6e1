"""Where a run of `prune` ends, what it keeps on the way, and whom it tells."""

from dataclasses import dataclass, field
from pathlib import Path

from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.shared.progress import NoProgress, Progress


@dataclass(frozen=True)
class Destination:
    """What a run is told beside its request; nothing of it decides the outcome.

    Attributes:
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file of observations; None is the user's cache.
        progress: Told what is being done, and how far it has come.
    """

    output: Path
    overwrite: bool = False
    store: Path | str | None = None
    progress: Progress = field(default_factory=NoProgress)

    def folder(self, request: PruneRequest, working: tuple[str, ...] = ()) -> OutputFolder:
        """The output, beside all that a request reads and what is worked with next to it."""
        return OutputFolder(
            self.output, request, overwrite=self.overwrite, store=self.store, working=working
        )
