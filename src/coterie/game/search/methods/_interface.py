"""What every search method is: a name, what it costs, and how it plays."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from coterie.game.coalitions import Coalitions
    from coterie.game.search.ledger import Ledger
    from coterie.game.search.task import Finalists, SearchTask


class SearchMethod(ABC):
    """One way to choose which coalition to keep.

    Attributes:
        name: What it is called on the command line.
        title: What it is called in a table.
        paper: Where it was published, an arXiv number; None for our own.
        summary: What it does, in a few words for a help text.
        chancy: Whether its answer depends on the seed even where the texts do not.
        ranks: Whether it ranks the players by one study of the published design, on the published
            number of texts, and cuts the lowest: no candidates are left to decide between.
        keeps_time: Whether it keeps to ``task.seconds`` and reports its progress by itself; others
            are stopped by a clock around the game.
        asks_parts: Whether it asks about parts of the texts even where all of them are one
            question, as in a mix of utilities.
        goes_on: Whether its answers are looked at again where more can be had: repaired, where a
            repair follows the cut, and block by block, where single blocks may go; the other
            methods stay what was published.
    """

    # What tables and help texts say of it.
    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str | None] = None
    summary: ClassVar[str]
    # What callers must know to run it; False is the ordinary case.
    chancy: ClassVar[bool] = False
    ranks: ClassVar[bool] = False
    keeps_time: ClassVar[bool] = False
    asks_parts: ClassVar[bool] = False
    goes_on: ClassVar[bool] = False

    @abstractmethod
    def least(self, task: "SearchTask") -> int:
        """Distinct coalitions it asks up to before it may stop: the least useful budget."""

    def most(self, task: "SearchTask") -> int:
        """Most distinct coalitions it asks, the full model and single absences included."""
        return self.least(task)

    def most_layer_sequences(self, task: "SearchTask", n_sequences: int) -> int:
        """Most layers × sequences it asks, as a dry run states it beforehand."""
        return self.least(task) * task.n_players * n_sequences

    def meant_to_ask(self, task: "SearchTask", n_sequences: int) -> int:
        """Layers × sequences that a method with a limit means to ask, stated beforehand."""
        return task.meant_to_spend(n_sequences)

    def most_executed(self, task: "SearchTask", n_sequences: int) -> int:
        """Most layers × sequences that run, prefixes shared; what is asked, where nobody knows."""
        return self.most_layer_sequences(task, n_sequences)

    def known_beforehand(self, task: "SearchTask") -> "Coalitions | None":
        """Every coalition it will ask; None where it decides as it goes.

        Raises:
            CutError: The budget or the locked players leave no design to draw.
        """
        return None

    @abstractmethod
    def play(self, ledger: "Ledger", task: "SearchTask") -> "Finalists":
        """Search the ledger's game; the answers, its own of every size first."""
