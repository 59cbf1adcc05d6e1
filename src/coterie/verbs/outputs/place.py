"""The one gate of all outputs: it knows what a run reads and where it writes, and keeps them apart.

Nothing is written by a verb but through here. No run replaces, empties or deletes a file or folder
that it reads, that holds its store, or that another run has filled meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coterie.errors import UserError
from coterie.foreign import is_of_machine
from coterie.verbs.options.declare import Options
from coterie.verbs.outputs.exchange import (
    beside,
    exchange,
    filled,
    is_partial,
    mend,
    mounts_in,
    open_as_the_user_wants,
    partial_folder,
    put_away,
    rehearse_exchange,
)
from coterie.verbs.outputs.reads import CONFIG, Read, holds, model_read, reads_of, resolved


@dataclass(frozen=True)
class Content:
    """What a verb leaves in its folder: nothing else is ever replaced, even with --overwrite.

    Attributes:
        what: Its name.
        is_in: Whether a folder holds one.
        taken: How a folder that holds one is told, where nothing may be replaced.
    """

    what: str
    is_in: Callable[[Path], bool]
    taken: str = "is not empty"


CHECKPOINT = Content("checkpoint", lambda folder: (folder / CONFIG).is_file())


class OutputFolder:
    """A folder that a run will write, beside everything the run reads.

    Args:
        path: The folder as the user named it.
        request: What is asked: the paths in it are read.
        overwrite: What a run of this kind left there may be replaced.
        store: SQLite file of observations; None is the user's.
        content: What is written there.
        working: Names of what the run keeps beside its output meanwhile, such as ``stages``.
    """

    def __init__(
        self,
        path: Path | str,
        request: Options | None = None,
        *,
        overwrite: bool = False,
        store: Path | str | None = None,
        content: Content = CHECKPOINT,
        working: tuple[str, ...] = (),
    ) -> None:
        self.path, self.overwrite = Path(path), overwrite
        self._content = content
        self.place = resolved(self.path)
        # Removed or replaced on the way, so nothing that is read may lie there.
        self._working = [beside(self.place, name) for name in ("old", *working)]
        self._reads = reads_of(request, store)

    def add(self, folder: Path | None, told: str = "") -> None:
        """Also keep apart the folder of a model, which is known only when it has been found.

        Args:
            folder: Where the model's files are; None adds nothing.
            told: What the user calls it; empty for the model that the verb is about.
        """
        if folder is not None:
            self._reads.append(model_read(folder, told))

    def also(self, request: Options) -> None:
        """Also keep apart what another request reads that is part of the same run."""
        self._reads += reads_of(request)

    def check(self) -> None:
        """Refuse a place that is taken, that is read, or that cannot be written.

        Raises:
            UserError: one clear line; nothing was changed.
        """
        try:
            self._check_apart()
            self._check_content()
            self._check_mounts()
            self._check_writable()
        except OSError as error:  # a name too long, a folder that may not be looked into
            raise UserError(
                f"--output {self.path} cannot be written ({error.strerror}): name another folder"
            ) from error

    @contextmanager
    def written(self) -> Iterator[Path]:
        """An empty folder beside the place that takes it if all goes well, and goes if not.

        What was there before is put back if the exchange fails, and a run that was killed in the
        middle of an exchange is mended by the next one.

        Raises:
            UserError: the place is read, taken, or was filled meanwhile.
        """
        self._check_apart()
        mend(self.place)
        # Before anything is written in vain; the exchange looks again.
        if not self.overwrite and self._is_taken():
            raise filled(str(self.path))
        with partial_folder(self.place) as folder:
            yield folder
            self.take(folder)

    @contextmanager
    def rehearsed(self) -> Iterator[Path]:
        """An empty folder beside the place that is put in a place and removed: a run's end, empty.

        Raises:
            UserError: the folder cannot be made, written or renamed.
        """
        try:
            with partial_folder(self.place) as folder:
                yield folder
                rehearse_exchange(self.place, folder, told=str(self.path))
        except OSError as error:
            if is_of_machine(error):
                raise
            raise UserError(
                f"--output {self.path} cannot be written ({error.strerror}): name another folder"
            ) from error

    def take(self, folder: Path) -> None:
        """Put a finished folder in the place.

        Args:
            folder: Where it was written, on the file system of the place.

        Raises:
            UserError: the place was filled meanwhile, or the exchange was refused; what was
                there is as it was.
        """
        # Asked again: much may have happened since the run began.
        self._check_apart()
        if self.overwrite:
            self._check_content()
            self._check_mounts()
        open_as_the_user_wants(folder)
        exchange(self.place, folder, told=str(self.path), overwrite=self.overwrite)

    def _check_apart(self) -> None:
        """Refuse whatever would take something away that is read."""
        # Replacing the current folder would pull the ground away from the shell.
        if holds(self.place, Path.cwd()):
            raise UserError(f"--output {self.path} is the folder you are in: name a new one")
        for read in self._reads:
            ours = (self.place, *self._working)
            taken = any(holds(own, one) for own in ours for one in read.places)
            taken = taken or any(is_partial(self.place, one) for one in read.places)
            # A new folder inside one that is read takes nothing away; one that is there would.
            within = read.closed or (read.whole and self._is_taken())
            if taken or (within and any(holds(one, self.place) for one in read.places)):
                raise UserError(self._overlap(read))

    def _overlap(self, read: Read) -> str:
        if not read.told:
            return f"--output {self.path} overlaps the folder of the model: name another"
        return f"{read.told} overlaps the folder of --output {self.path}: name another"

    def _is_taken(self) -> bool:
        return self.place.is_dir() and any(self.place.iterdir())

    def _check_content(self) -> None:
        if self.place.exists() and not self.place.is_dir():
            raise UserError(f"--output {self.path} is a file: name a folder")
        # What a killed run had put away comes back before this one writes.
        there = put_away(self.place) or self.place
        if not there.is_dir() or not any(there.iterdir()):
            return
        ours = self._content.is_in(there)
        if not self.overwrite:
            taken = self._content.taken if ours else "is not empty"
            raise UserError(
                f"--output {self.path} {taken}: name another folder, or add --overwrite"
            )
        if not ours:
            raise UserError(
                f"--output {self.path} holds no {self._content.what}, so --overwrite does not"
                " replace it: name another folder"
            )

    def _check_mounts(self) -> None:
        if not self.place.is_dir() or not (mounts := mounts_in(self.place)):
            return
        if self.place in mounts:
            raise UserError(
                f"--output {self.path} is a mount point, which no folder can replace: name a new"
                f" folder inside it, such as {self.path / 'out'}"
            )
        raise UserError(
            f"--output {self.path} holds the mount point {mounts[0].name}, which would be"
            " emptied: name another folder"
        )

    def _check_writable(self) -> None:
        if not self.place.parent.is_dir():
            raise UserError(
                f"the folder that --output {self.path} lies in does not exist: make it first"
            )
        # Tried rather than asked: permissions, quotas and read-only disks all show here.
        with partial_folder(self.place):
            pass
