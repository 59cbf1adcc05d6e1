"""What a repair is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coterie.repair.place import KeptLayer
    from coterie.repair.walk import Walk


@dataclass(frozen=True)
class Repair:
    """One way to refit what stays.

    Attributes:
        name: What it is called on the command line.
        title: What it does, in a few words.
        paper: Where it was published, an arXiv number; None for one of ours.
        at: Refits one kept layer on its turn.
        finish: What is left to do behind the last kept layer, where there is anything; what a
            repair with it does to a layer depends on layers behind that one.
    """

    name: str
    title: str
    paper: str | None
    at: "Callable[[KeptLayer], None]"
    finish: "Callable[[Walk], None] | None" = None

    def refit(self, walk: "Walk") -> None:
        """Refit the kept layers in turn, in place.

        Raises:
            RepairError: The model or the texts do not allow it.
        """
        for place in walk.places():
            self.at(place)
        if self.finish is not None:
            self.finish(walk)
