"""One-shot ranking: cut those whose absence alone hurts least."""

from typing import TYPE_CHECKING, ClassVar

from coterie.game.search.methods._interface import SearchMethod

if TYPE_CHECKING:
    from coterie.game.search.ledger import Ledger
    from coterie.game.search.task import Finalists, SearchTask


class OneShot(SearchMethod):
    """Shortened LLaMA's rule by perplexity (arXiv:2402.02834), with no layer kept by rule."""

    name: ClassVar[str] = "one-shot"
    title: ClassVar[str] = "one-shot, no layer kept"
    summary: ClassVar[str] = "cuts the layers that hurt least, each alone"

    def least(self, task: "SearchTask") -> int:
        """Every single absence, and the answers."""
        # The answers themselves are asked too: a value, not only a rank, is reported.
        return task.n_players - len(task.locked) + len(task.keeps)

    def most(self, task: "SearchTask") -> int:
        """The same and the full model."""
        return self.least(task) + 1

    def play(self, ledger: "Ledger", task: "SearchTask") -> "Finalists":
        """One ranking answers all sizes."""
        from coterie.game.search.plain import one_shot
        from coterie.game.search.task import Finalists

        return Finalists(one_shot(ledger, task.keeps, locked=task.locked_players))
