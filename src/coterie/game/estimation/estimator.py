"""What every estimator of contributions is: a name, what it is limited to, and how it estimates."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from coterie.errors import CutError

# Names for annotations only: a command line lists all estimators without numpy.
if TYPE_CHECKING:
    import numpy as np

    from coterie.game.coalitions import Indices, ValueFunction
    from coterie.game.estimation.semivalues import Estimate

BUDGET = 1_024
"""About how many coalitions are asked by default; `exact` and `window` ask their all."""


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

        # A stream of its own: studies and searches draw from others.
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
        # Counted in free players: locked ones are in every coalition and double nothing.
        if self.most_players is not None and task.n_free > self.most_players:
            raise CutError(
                f"--estimator {self.name} enumerates all coalitions, of at most "
                f"{self.most_players} players: {task.n_free} are free here; lock some, or give"
                " --estimator kernel"
            )
        # Only a budget that was asked for is refused; the default is always enough or is raised.
        least = self.least(task.n_free)
        if task.budget is not None and task.budget < least:
            raise CutError(
                f"--budget {task.budget} gives --estimator {self.name} no standard error on "
                f"{task.n_free} players: allow at least {least}"
            )

    @abstractmethod
    def estimate(self, value: "ValueFunction", task: EstimationTask) -> "Estimate":
        """Contributions to a value function, each with its standard error."""
