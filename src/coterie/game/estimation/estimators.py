"""The estimators of contributions by name: what each estimates, asks and is limited to; one table.

    estimate = ESTIMATORS["kernel"].estimate(value, task)

Command lines, checks and `values` read the table. To add an estimator, write one class with a name,
a title, a summary and `estimate`, and `register` an object of it. Nothing here imports numpy before
an estimator is asked: a command line can name them all in an instant.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from coterie.errors import CoterieError, CutError

if TYPE_CHECKING:
    import numpy as np

    from coterie.game.coalitions import Indices, ValueFunction
    from coterie.game.estimation.semivalues import Estimate

BUDGET = 1_024
"""About how many coalitions are asked unless told otherwise; `exact` and `window` ask their all."""

MOST_EXACT = 20
"""Players up to whom all coalitions can be enumerated."""

WINDOW = 5
"""Players in a sliding window."""


@dataclass(frozen=True)
class EstimationTask:
    """Of whom contributions are estimated, and within which bounds.

    Attributes:
        n_players: Players of the game, locked ones included.
        locked: Players that stay.
        budget: About how many distinct coalitions to ask; None is `BUDGET`.
        seed: Decides every draw: an estimator asked twice draws the same coalitions.
    """

    n_players: int
    locked: tuple[int, ...] = ()
    budget: int | None = None
    seed: int = 0

    @property
    def n_free(self) -> int:
        """Players that are not locked."""
        return self.n_players - len(self.locked)

    @property
    def asked(self) -> int:
        """About how many coalitions are asked."""
        return self.budget or BUDGET

    @property
    def locked_players(self) -> "Indices":
        """The locked players as an array."""
        import numpy as np

        return np.array(self.locked, dtype=np.intp)

    def generator(self) -> "np.random.Generator":
        """The generator of the estimate, always in the same state for the same seed."""
        import numpy as np

        return np.random.default_rng([self.seed, 2])


class Estimator(ABC):
    """One way to estimate what every player contributes.

    Attributes:
        name: What it is called on the command line.
        title: What it is called in a table.
        paper: Where it was published, an arXiv number or a DOI; None for a definition.
        summary: What it estimates and how, in a few words for a help text.
        by_study: Whether it is read from a surrogate that a study of the published design fitted;
            the others ask the true game and speak in nats per token.
        most_players: Players up to whom it can be asked; None for any number.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str | None] = None
    summary: ClassVar[str]
    by_study: ClassVar[bool] = False
    most_players: ClassVar[int | None] = None

    def least(self, n_free: int) -> int:
        """Coalitions it takes at the least for a standard error of everyone."""
        return 0

    def check(self, task: EstimationTask) -> None:
        """Refuse a game or a budget that it is not made for.

        Raises:
            CutError: Too many players, or too few coalitions for a standard error.
        """
        if self.most_players is not None and task.n_free > self.most_players:
            raise CutError(
                f"--estimator {self.name} enumerates all coalitions, of at most "
                f"{self.most_players} players: {task.n_free} are free here; lock some, or give"
                " --estimator kernel"
            )
        least = self.least(task.n_free)
        if task.budget is not None and task.budget < least:
            raise CutError(
                f"--budget {task.budget} gives --estimator {self.name} no standard error on "
                f"{task.n_free} players: allow at least {least}"
            )

    @abstractmethod
    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """Contributions to a value function, each with its standard error."""


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
            value, task.n_players, window=min(WINDOW, task.n_free), locked=task.locked_players
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


ESTIMATORS: dict[str, Estimator] = {}
"""Every estimator by its name; the first is the default."""


def register(estimator: Estimator) -> None:
    """Add an estimator to the table, last.

    Raises:
        CoterieError: There is one of this name.
    """
    if estimator.name in ESTIMATORS:
        raise CoterieError(f"there is an estimator named {estimator.name!r}: choose another name")
    ESTIMATORS[estimator.name] = estimator


for _estimator in (
    ThroughSurrogate(),
    KernelRegression(),
    Permutations(),
    SampledBanzhaf(),
    ExactShapley(),
    SlidingWindow(),
    ControlVariate(),
):
    register(_estimator)
