"""Evolution by level switches within a tenth of what the paper's method asks."""

from typing import TYPE_CHECKING, ClassVar

from coterie.game.search.methods._interface import SearchMethod

if TYPE_CHECKING:
    from coterie.game.search.ledger import Ledger
    from coterie.game.search.task import Finalists, SearchTask


class Evolution(SearchMethod):
    """EvoPress' search (arXiv:2410.14649), the limit shared between the sizes."""

    name: ClassVar[str] = "evolve"
    title: ClassVar[str] = "evolution at a tenth of the paper's cost"
    summary: ClassVar[str] = "mutates the best coalition and keeps what survives"
    chancy: ClassVar[bool] = True
    asks_parts: ClassVar[bool] = True

    def least(self, task: "SearchTask") -> int:
        """Nothing: any budget pays for some generations."""
        return 0

    def most_layer_sequences(self, task: "SearchTask", n_sequences: int) -> int:
        """What it means to spend."""
        return task.meant_to_spend(n_sequences)

    def play(self, ledger: "Ledger", task: "SearchTask") -> "Finalists":
        """Generations at every size, each within its share of the limit."""
        from coterie.game.search.evolve import evolve
        from coterie.game.search.task import Finalists

        # The limit is in layer-sequences, so that generations of small coalitions may be more.
        limit, rng = task.most_layer_sequences, task.generator()
        if task.budget is not None:
            limit = min(limit, float(task.budget * max(task.keeps) * ledger.n_sequences))
        answers, each = [], limit / len(task.keeps)
        for keep in task.keeps:
            # What one size leaves over is not passed on: sizes would depend on their order.
            until = ledger.layer_sequences + each
            answers.append(
                evolve(
                    ledger, keep, locked=task.locked_players, most_layer_sequences=until, rng=rng
                )
            )
        return Finalists(answers)
