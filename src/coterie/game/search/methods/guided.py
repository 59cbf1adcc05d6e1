"""Guided search, the default: a learnt model of the game says where to look."""

from typing import TYPE_CHECKING, ClassVar

from coterie.game.search.methods._interface import SearchMethod

if TYPE_CHECKING:
    from coterie.game.search.ledger import Ledger
    from coterie.game.search.task import Finalists, SearchTask

MOST_COALITIONS = 2_000
"""Where it ends at the latest unless asked otherwise; patience nearly always ends it sooner."""

PATIENCE = 8
"""Rounds in a row that improve no size, before it rests; a budget is spent whatever they bring."""

DESCENTS = 3
"""How many times the work of greedy's descent it may execute, that descent included."""

MIX_COALITIONS = 200
"""The same where a coalition answers tasks, or twice what its plain answers take if more."""

CLOSE = 8
"""Of each size, how many coalitions that the texts cannot tell apart it puts forward."""


class GuidedSearch(SearchMethod):
    """`coterie.game.search.guided` until it has converged, within a multiple of greedy's work."""

    name: ClassVar[str] = "guided"
    title: ClassVar[str] = "guided search (ours)"
    summary: ClassVar[str] = (
        "a learnt model of the game says where to look, until rounds no longer improve the cut or"
        f" {DESCENTS} times the work of greedy is done; cannot lose to greedy, one-shot, contiguous"
        " or ranked cuts on the texts that decide"
    )
    chancy: ClassVar[bool] = True
    goes_on: ClassVar[bool] = True

    def least(self, task: "SearchTask") -> int:
        """The plain answers that it begins with."""
        from coterie.game.search.baselines import plain_cost

        return plain_cost(task.n_players, task.keeps, n_locked=len(task.locked))

    def most(self, task: "SearchTask") -> int:
        """Its budget."""
        return task.budget or max(MIX_COALITIONS, 2 * self.least(task))

    def most_layer_sequences(self, task: "SearchTask", n_sequences: int) -> int:
        """What its budget pays for, or the plain answers where they are more."""
        plain = super().most_layer_sequences(task, n_sequences)
        return max(self.meant_to_ask(task, n_sequences), plain)

    def meant_to_ask(self, task: "SearchTask", n_sequences: int) -> int:
        """Its budget at full price, else as many times what greedy asks as it may execute."""
        from coterie.game.search.plain import descent_layers

        if task.budget is not None:
            return super().meant_to_ask(task, n_sequences)
        descent = descent_layers(task.n_players, min(task.keeps), n_locked=len(task.locked))
        return DESCENTS * descent * n_sequences

    def most_executed(self, task: "SearchTask", n_sequences: int) -> int:
        """So many descents, each step's prefixes shared; with a budget, what it asks."""
        from coterie.game.search.plain import descent_executed

        if task.budget is not None:
            return super().most_executed(task, n_sequences)
        descent = descent_executed(task.n_players, min(task.keeps), n_locked=len(task.locked))
        return DESCENTS * descent * n_sequences

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
            patience=PATIENCE if task.budget is None else None,
            most_executed=(
                ledger.layers_executed + self.most_executed(task, ledger.n_sequences)
                if task.budget is None
                else float("inf")
            ),
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
