"""The estimators of contributions by name: what each estimates, asks and is limited to; one table.

    estimate = ESTIMATORS["kernel"].estimate(value, task)

Command lines, checks and `values` read the table. To add an estimator, write one class with a name,
a title, a summary and `estimate`, and `ESTIMATORS.register` an object of it. Nothing here imports
numpy before an estimator is asked: a command line can name them all in an instant.
"""

from typing import TYPE_CHECKING, ClassVar

from coterie.game.estimation.estimator import EstimationTask, Estimator
from coterie.game.named import NamedTable

if TYPE_CHECKING:
    from coterie.game.coalitions import ValueFunction
    from coterie.game.estimation.semivalues import Estimate

MOST_EXACT = 20
"""Players up to whom all coalitions can be enumerated."""

WINDOW = 5
"""Players in a sliding window."""


class ThroughSurrogate(Estimator):
    """The paper's semivalue (arXiv:2602.07804), read from a surrogate with its published design."""

    name: ClassVar[str] = "paper"
    title: ClassVar[str] = "stratified semivalue through a surrogate"
    paper: ClassVar[str | None] = "2602.07804"
    summary: ClassVar[str] = "its semivalue through a surrogate, in shares of the full model"
    by_study: ClassVar[bool] = True

    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """The same of a bare value function: fit the design's coalitions, read the surrogate."""
        from coterie.game.search.task import SearchTask
        from coterie.game.study import study_for

        # A bare value function is a game on a single text, so errors by text are unknown.
        from coterie.game.toy import game_of

        asked = SearchTask(task.n_players, (), task.locked, budget=task.budget, seed=task.seed)
        return study_for(game_of(task.n_players, value), asked).contributions.estimate


class KernelRegression(Estimator):
    """Shapley values by paired kernel regression."""

    name: ClassVar[str] = "kernel"
    title: ClassVar[str] = "Shapley by paired kernel regression"
    paper: ClassVar[str | None] = "2012.01536"
    summary: ClassVar[str] = "Shapley by kernel regression"

    def least(self, n_free: int) -> int:
        """Two pairs for every coefficient."""
        return 4 * n_free

    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """Half the budget in pairs of complements."""
        from coterie.game.estimation.regression import kernel_shapley

        # A pair is two coalitions; never fewer pairs than the regression needs.
        draws = max(2 * task.n_free, task.asked // 2)
        return kernel_shapley(
            value, task.n_players, draws=draws, locked=task.locked_players, rng=task.generator()
        )


class Permutations(Estimator):
    """Shapley values by random orders of arrival."""

    name: ClassVar[str] = "permutation"
    title: ClassVar[str] = "Shapley by permutations"
    paper: ClassVar[str | None] = "10.1016/j.cor.2008.04.004"
    summary: ClassVar[str] = "Shapley by random orders of arrival"

    def least(self, n_free: int) -> int:
        """Two orders."""
        return 2 * (n_free + 1)

    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """As many orders as the budget pays for."""
        from coterie.game.estimation.sampling import permutation_shapley

        # One order of arrival asks n + 1 coalitions, the empty one included.
        draws = max(2, task.asked // (task.n_free + 1))
        return permutation_shapley(
            value, task.n_players, draws=draws, locked=task.locked_players, rng=task.generator()
        )


class SampledBanzhaf(Estimator):
    """Banzhaf values, stratified by player and size."""

    name: ClassVar[str] = "banzhaf"
    title: ClassVar[str] = "Banzhaf by stratified sampling"
    paper: ClassVar[str | None] = "1306.4265"
    summary: ClassVar[str] = "Banzhaf, every coalition equally likely"

    def least(self, n_free: int) -> int:
        """Two pairs for every player and size."""
        return 4 * n_free * n_free

    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """The same number of draws for every player and size."""
        from coterie.game.estimation.sampling import sampled
        from coterie.game.estimation.semivalues import banzhaf

        return sampled(
            value,
            task.n_players,
            banzhaf(task.n_free),
            # Each stratum of a player and a size asks its coalition with and without the player.
            draws=max(2, task.asked // (2 * task.n_free * task.n_free)),
            locked=task.locked_players,
            rng=task.generator(),
        )


class ExactShapley(Estimator):
    """Shapley values of the game of the free players, the locked ones always in."""

    name: ClassVar[str] = "exact"
    title: ClassVar[str] = "Shapley, all coalitions"
    summary: ClassVar[str] = f"Shapley from all coalitions (up to {MOST_EXACT} players)"
    most_players: ClassVar[int | None] = MOST_EXACT

    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """By the definition."""
        import numpy as np

        from coterie.game.designs import enumerate_all
        from coterie.game.estimation.semivalues import exact, placed, shapley

        # The game of the free players alone: the locked ones are switched on in all rows.
        free = np.setdiff1d(np.arange(task.n_players), task.locked_players)
        inside = enumerate_all(len(free))
        coalitions = np.ones((len(inside), task.n_players), dtype=bool)
        coalitions[:, free] = inside
        return placed(exact(value(coalitions), shapley(len(free))), task.n_players, free)


class SlidingWindow(Estimator):
    """Shapley values in the game of each player's neighbours, everyone else kept."""

    name: ClassVar[str] = "window"
    title: ClassVar[str] = "sliding-window Shapley"
    paper: ClassVar[str | None] = "2505.01731"
    summary: ClassVar[str] = f"Shapley in a sliding window of {WINDOW}"

    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """All coalitions of every window."""
        from coterie.game.estimation.regression import sliding_window_shapley

        return sliding_window_shapley(
            # Windows overlap, and a coalition that two of them share is asked once.
            value,
            task.n_players,
            window=min(WINDOW, task.n_free),
            locked=task.locked_players,
        )


class ControlVariate(Estimator):
    """Shapley values of the true game, a pairwise surrogate taking the noise out of the sample."""

    name: ClassVar[str] = "control"
    title: ClassVar[str] = "Shapley, a surrogate as control variate"
    paper: ClassVar[str | None] = "1608.00060"
    summary: ClassVar[str] = (
        "Shapley by sampling, a surrogate as control variate (unbiased, and the most exact)"
    )

    def least(self, n_free: int) -> int:
        """Four bases of every size, each with a switch of every player."""
        from coterie.game.estimation.controlled import least_asked

        return least_asked(n_free)

    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """Bases of every size alike; each asks its own value and one switch per player."""
        from coterie.game.estimation.controlled import controlled_shapley

        return controlled_shapley(
            value,
            task.n_players,
            asked=task.asked,
            locked=task.locked_players,
            rng=task.generator(),
        )


# The order decides the default and how reports list them.
ESTIMATORS: NamedTable[Estimator] = NamedTable(
    "an estimator",
    (
        ThroughSurrogate(),
        KernelRegression(),
        Permutations(),
        SampledBanzhaf(),
        ExactShapley(),
        SlidingWindow(),
        ControlVariate(),
    ),
)
"""Every estimator by its name; the first is the default."""
