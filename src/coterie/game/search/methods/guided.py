"""Guided search, the default: a learnt model of the game says where to look."""

from typing import TYPE_CHECKING, ClassVar

from coterie.game.search.methods._interface import SearchMethod

if TYPE_CHECKING:
    from coterie.game.search.ledger import Ledger
    from coterie.game.search.task import Finalists, SearchTask

MOST_COALITIONS = 2_000
"""Where it ends at the latest unless asked otherwise; its layer-tokens end it sooner."""

MIX_COALITIONS = 200
"""The same where a coalition answers tasks, or twice what its plain answers take if more."""

CLOSE = 8
"""Of each size, how many coalitions that the texts cannot tell apart it puts forward."""


class GuidedSearch(SearchMethod):
    """`coterie.game.search.guided` within a tenth of what the paper's method asks."""

    name: ClassVar[str] = "guided"
    title: ClassVar[str] = "guided search (ours)"
    summary: ClassVar[str] = (
        "a learnt model of the game says where to look; asks about a tenth of the layer-tokens that"
        " `paper` asks, and cannot lose to greedy, one-shot, contiguous or ranked cuts on the texts"
        " that decide"
    )
    chancy: ClassVar[bool] = True

    def least(self, task: "SearchTask") -> int:
        """The plain answers that it begins with."""
        from coterie.game.search.baselines import plain_cost

        return plain_cost(task.n_players, task.keeps, n_locked=len(task.locked))

    def most(self, task: "SearchTask") -> int:
        """Its budget."""
        return task.budget or max(MIX_COALITIONS, 2 * self.least(task))

    def most_layer_sequences(self, task: "SearchTask", n_sequences: int) -> int:
        """What it means to spend, or the plain answers where they are more."""
        plain = super().most_layer_sequences(task, n_sequences)
        return max(task.meant_to_spend(n_sequences), plain)

    def play(self, ledger: "Ledger", task: "SearchTask") -> "Finalists":
        """Plain answers first, then rounds of proposals until the budget or the gains end."""
        from coterie.game.search.baselines import whole_layer_sequences
        from coterie.game.search.guided import GuidedSettings, guided
        from coterie.game.search.task import Finalists

        # Never below greedy: where reading all of its descent costs more than the limit, only what
        # comes after the descent is bounded, and the descent goes by races that are safe.
        limit, n_locked = task.most_layer_sequences, len(task.locked)
        whole = whole_layer_sequences(
            ledger.n_players, task.keeps, ledger.n_sequences, n_locked=n_locked
        )
        reached = ledger.layer_sequences + whole <= limit
        settings = GuidedSettings(
            budget=task.budget or MOST_COALITIONS,
            most_layer_sequences=limit,
            allowance=limit if reached else float("inf"),
            close=CLOSE,
        )
        found = guided(
            ledger,
            task.keeps,
            settings,
            locked=task.locked_players,
            judge=task.judge,
            rng=task.generator(),
        )
        return Finalists(found.finalists, found.remark)
