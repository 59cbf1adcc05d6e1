"""A single file that a run writes, kept apart from all that it reads."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from coterie.errors import UserError
from coterie.foreign import is_of_machine
from coterie.verbs.outputs.reads import Read, holds, resolved


class OutputFile:
    """A single file that a run writes beside its checkpoint, or instead of one.

    Args:
        path: The file as the user named it.
        told: The option that names it.
        reads: What the run reads.
    """

    def __init__(self, path: Path, told: str, reads: Iterable[Read]) -> None:
        self.path, self._told, self._reads = path, told, tuple(reads)

    def check(self) -> None:
        """Refuse a folder, and a file that the run reads.

        Raises:
            UserError: one clear line; nothing was changed.
        """
        place = resolved(self.path, self._told)
        if place.is_dir():
            raise UserError(f"{self._told} {self.path} is a folder: name a file")
        for read in self._reads:
            # A new file inside a folder that is read takes nothing away, nor does a config that an
            # earlier run left there: no model and no text is written in YAML.
            harmless = place.suffix in (".yml", ".yaml") and place not in read.places
            if place.exists() and not harmless and any(holds(one, place) for one in read.places):
                raise UserError(
                    f"{self._told} {self.path} would replace a file that is read: name another"
                )

    def write(self, text: str) -> None:
        """Write a text; as `fill`."""
        self.fill(lambda aside: aside.write_text(text, encoding="utf-8"))

    def fill(self, write: Callable[[Path], object]) -> None:
        """Write it aside and rename it, so that it is whole or as it was.

        Args:
            write: Writes the file it is given, whose name ends as that of the file itself.

        Raises:
            UserError: it is read, or cannot be written.
        """
        self.check()
        place = resolved(self.path, self._told)
        aside = place.with_name(f".{place.stem}.partial-{os.getpid()}{place.suffix}")
        try:
            write(aside)
            aside.replace(place)
        except OSError as error:
            if is_of_machine(error):
                raise
            raise UserError(
                f"{self._told} {self.path} cannot be written ({error.strerror}): name another file"
            ) from error
        finally:
            aside.unlink(missing_ok=True)
