"""Greedy search: cut the player whose absence hurts least, look again, and repeat."""

from typing import TYPE_CHECKING, ClassVar

from coterie.game.search.methods._interface import SearchMethod

if TYPE_CHECKING:
    from coterie.game.search.ledger import Ledger
    from coterie.game.search.task import Finalists, SearchTask


class GreedyDescent(SearchMethod):
    """SLEB's rule (arXiv:2402.09025), with no layer kept by rule."""

    name: ClassVar[str] = "greedy"
    title: ClassVar[str] = "greedy, no layer kept"
    summary: ClassVar[str] = "cuts the layer that hurts least, looks again, and repeats"

    def least(self, task: "SearchTask") -> int:
        """All steps of one descent."""
        from coterie.game.search.baselines import plain_cost

        # The one-shot answers are counted along: they come out of the same first step.
        return plain_cost(task.n_players, task.keeps, n_locked=len(task.locked))

    def play(self, ledger: "Ledger", task: "SearchTask") -> "Finalists":
        """One descent answers all sizes."""
        from coterie.game.search.plain import greedy
        from coterie.game.search.task import Finalists

        return Finalists(greedy(ledger, task.keeps, locked=task.locked_players))
