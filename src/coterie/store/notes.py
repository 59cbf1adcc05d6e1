"""The notes of one game, each written once."""

from dataclasses import dataclass

from coterie.plain import Json
from coterie.store.observations import Store


@dataclass(frozen=True)
class Notes:
    """The notes of one game: each name is written once and then stands."""

    store: Store
    game: int

    def read(self, name: str) -> Json:
        """What was noted under this name; None if nothing was."""
        return self.store.note(self.game, name)

    def write(self, name: str, content: Json) -> Json:
        """Note this, unless something is noted already; returns what stands."""
        return self.store.write_note(self.game, name, content)
