"""A table of things by their names, in the order in which help texts and reports list them."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from coterie.errors import CoterieError


class Named(Protocol):
    """Whatever has a name that users type."""

    @property
    def name(self) -> str: ...


Entry = TypeVar("Entry", bound=Named)


class NamedTable(dict[str, Entry]):
    """Entries by their names; the first is the default.

    Args:
        what: What an entry is called in a message: ``"a search method"``.
        entries: Those that ship with the package.
    """

    def __init__(self, what: str, entries: Iterable[Entry]) -> None:
        super().__init__()
        self.what = what
        for entry in entries:
            self.register(entry)

    def register(self, entry: Entry) -> None:
        """Add an entry, last.

        Raises:
            CoterieError: There is one of this name.
        """
        if entry.name in self:
            raise CoterieError(f"there is {self.what} named {entry.name!r}: choose another name")
        self[entry.name] = entry
