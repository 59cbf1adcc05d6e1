"""Contiguous search: cut the run of neighbours whose absence hurts least."""

from typing import TYPE_CHECKING, ClassVar

from coterie.game.search.methods._interface import SearchMethod

if TYPE_CHECKING:
    from coterie.game.search.ledger import Ledger
    from coterie.game.search.task import Finalists, SearchTask


class ContiguousRun(SearchMethod):
    """The shape of arXiv:2403.17887's cut, chosen by the loss."""

    name: ClassVar[str] = "contiguous"
    title: ClassVar[str] = "best contiguous run by loss"
    summary: ClassVar[str] = "cuts the run of neighbouring layers that hurts least"

    def least(self, task: "SearchTask") -> int:
        """Every run of every size."""
        # A run of a size can begin at keep + 1 places.
        return sum(keep + 1 for keep in task.keeps)

    def most(self, task: "SearchTask") -> int:
        """The same, every single absence and the full model."""
        return self.least(task) + task.n_players - len(task.locked) + 1

    def play(self, ledger: "Ledger", task: "SearchTask") -> "Finalists":
        """Ask all runs of every size."""
        from coterie.game.search.plain import contiguous
        from coterie.game.search.task import Finalists

        return Finalists(contiguous(ledger, task.keeps, locked=task.locked_players))
