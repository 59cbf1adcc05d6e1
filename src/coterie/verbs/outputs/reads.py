"""What a run reads from this machine, found in its request: no output may take any of it away."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from coterie.errors import TextError, UserError
from coterie.foreign import check_name, expanded
from coterie.models.files.places import REFERENCE
from coterie.quantization.schemes import INTERPRETER
from coterie.store.sqlite_file import default_path
from coterie.texts.specs import parse_mixture, path_of
from coterie.verbs.options.declare import Options, declared

CONFIG = "config.json"
"""The file by which a folder is known to hold a checkpoint."""

_DEEPEST = 2
"""Folders below a folder that is read in which links are looked for."""


@dataclass(frozen=True)
class Read:
    """A file or folder that a run reads.

    Attributes:
        told: What the user calls it: ``--teacher DIR``; empty for the model itself.
        path: Where it is, as it was named.
        closed: Nothing new may be written inside it either.
        whole: Whatever lies inside it is read too.
    """

    told: str
    path: Path
    closed: bool = False
    whole: bool = True

    @cached_property
    def places(self) -> tuple[Path, ...]:
        """The path itself, what it leads to, and what links inside it lead to."""
        found: list[Path] = []
        try:
            # A link itself is kept as well as what it leads to.
            found += [self.path.parent.resolve() / self.path.name, self.path.resolve()]
            # A checkpoint in the Hub's cache is a folder of links: its files lie elsewhere.
            if self.path.is_dir():
                found += [one.resolve() for one in _links(self.path, _DEEPEST)]
        except (OSError, RuntimeError, ValueError):  # told by whoever reads it
            pass
        return tuple(dict.fromkeys(found))


def reads_of(request: Options | None, store: Path | str | None = None) -> list[Read]:
    """Everything on this machine that a run reads, as far as its request tells.

    Args:
        request: What is asked; every path among its options counts.
        store: SQLite file of observations; None is the user's.
    """
    found = [] if request is None else list(_named(request))
    found += [Read("the store", path) for path in _stores(store)]
    # The interpreter and its packages run what follows.
    found += [Read("the Python that runs this", Path(sys.prefix), whole=False)]
    found += [Read("coterie itself", Path(__file__).parents[2], whole=False)]
    if other := os.environ.get(INTERPRETER):
        found.append(Read(f"${INTERPRETER}", Path(other)))
    return found


def model_read(folder: Path, told: str = "") -> Read:
    """The folder of a model, once it is known: nothing is written over it, into it or around it.

    Args:
        folder: Where its files are.
        told: What the user calls it; empty for the model that the verb is about.
    """
    return Read(told, folder, closed=True)


def holds(outer: Path, inner: Path) -> bool:
    """Whether one path is the other or lies in it, under whatever names it is reached."""
    chain = (inner, *inner.parents)
    if outer in chain:
        return True
    # The same folder mounted twice, or its name in other letters on a disk that ignores case.
    known = _identity(outer)
    return known is not None and any(known == _identity(one) for one in chain)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # not there, or not to be looked at: then its name decides
        return None
    return found.st_dev, found.st_ino


def resolved(path: Path, told: str = "--output") -> Path:
    """Where a path leads to.

    Raises:
        UserError: nowhere, for it is no path or goes round in a circle.
    """
    check_name(path)
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{told} {path!s} is no path that can be written: name another") from error


def _named(request: Options) -> Iterator[Read]:
    """The paths that a request names, each under the option that names it."""
    for one in declared(type(request)):
        value, option = getattr(request, one.name), one.option
        if option.written or value is None:
            continue
        for part in value if isinstance(value, tuple) else (value,):
            if not isinstance(part, Path) and not (option.path and isinstance(part, str)):
                continue
            for path in _paths(part):
                # An argument is the model; whatever else holds a checkpoint is kept whole too.
                told = "" if option.is_argument else f"{option.name} {path}"
                yield Read(told, path, closed=option.is_argument or (path / CONFIG).is_file())


def _paths(value: Path | str) -> Iterator[Path]:
    """What a value names on this machine: one path, several in a mixture of texts, or none."""
    if isinstance(value, Path):
        yield expanded(value)
        return
    if value in (REFERENCE, "stdlib"):
        return
    try:
        parts = [spec for spec, _ in parse_mixture(value)]
    except TextError:  # told by whoever reads it
        parts = [value]
    for spec in parts:
        # A folder that is yet to be made counts too, where it can be nothing but a path.
        path = path_of(spec) or (Path(spec) if Path(spec).is_absolute() else None)
        if path is not None:
            yield path


def _stores(store: Path | str | None) -> Iterator[Path]:
    if store is not None:
        yield Path(store)
    try:
        yield default_path()
    except UserError:  # no home folder: then there is no store in it
        return


def _links(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # told by whoever reads it
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        elif depth and entry.is_dir(follow_symlinks=False):
            yield from _links(Path(entry.path), depth - 1)
