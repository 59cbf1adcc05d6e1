"""What a search method is asked, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from coterie.game.coalitions import Indices
from coterie.game.designs import draw_strata
from coterie.game.published import paper_draws, published_sizes
from coterie.game.search.plain import Answer
from coterie.game.search.race import Judge, by_race
from coterie.game.surrogates.training import Trainer, trained

if TYPE_CHECKING:
    from coterie.game.study import Study

Step = Callable[[str, int, int], None]
"""Called as the work goes on: name of the stage, how much is done, how much there is."""


def _say_nothing(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, eq=False)
class SearchTask:
    """Which coalitions to look for, within which bounds.

    Attributes:
        n_players: Players of the game, locked ones included.
        keeps: Sizes to find a coalition of, largest first; a ranking alone needs none.
        locked: Players that stay.
        budget: Most distinct coalitions to ask; None is the method's own default.
        most_layer_sequences: Σ coalition size over what is asked, which guided search and evolution
            keep to.
        judge: How guided search compares candidates.
        seconds: Most seconds of observing, for a method that keeps to them by itself.
        seed: Decides every draw.
        documents: Document of each of the game's sequences, ``(n_sequences,)``; None: each its own.
        vocabulary: Tokens of the model's vocabulary; sets what a loss that is not finite counts as.
        surrogate: A name of `coterie.game.study.SURROGATES`, for a method that fits one.
        trainer: Trains the networks of such a method; on the cores of this machine by default.
        step: Called as the work goes on.
    """

    n_players: int
    keeps: tuple[int, ...]
    locked: tuple[int, ...] = ()
    budget: int | None = None
    most_layer_sequences: float = np.inf
    judge: Judge = by_race
    seconds: float | None = None
    seed: int = 0
    documents: Indices | None = None
    vocabulary: int = 2
    surrogate: str = "paper"
    trainer: Trainer = trained
    step: Step = _say_nothing

    @property
    def locked_players(self) -> Indices:
        """The locked players as an array."""
        return np.array(self.locked, dtype=np.intp)

    def generator(self, stream: int = 3) -> np.random.Generator:
        """The generator of the search, always in the same state for the same seed and stream."""
        return np.random.default_rng([self.seed, stream])

    def meant_to_spend(self, n_sequences: int) -> int:
        """Layer-sequences that a method with a limit means to ask, stated beforehand."""
        # Without a budget what the help text says of evolution: a tenth of the paper's tokens.
        if self.budget is None:
            return tenth_of_paper(self.n_players, self.locked)
        return self.budget * self.n_players * n_sequences


@dataclass(frozen=True, eq=False)
class Finalists:
    """What a method found: coalitions to decide between, and what it has to say of them."""

    answers: list[Answer] = field(default_factory=list)
    """The method's own answer of every size first."""
    remark: str | None = None
    """What the limit did not suffice for, in one sentence."""
    study: "Study | None" = None
    """The study behind the answers, where the method ranks players by one."""


def tenth_of_paper(n_players: int, locked: tuple[int, ...]) -> int:
    """A tenth of the layer-sequences that the paper's method asks: its design on one text of ten.

    Times the length of a sequence, these are layer-tokens.
    """
    # Ten texts calibrate the paper's method: its design on one of them is a tenth.
    strata = draw_strata(
        n_players,
        published_sizes(n_players, len(locked)),
        paper_draws(n_players),
        locked=np.array(locked, dtype=np.intp),
        rng=np.random.default_rng(0),
    )
    return int(sum(stratum.coalitions.sum() for stratum in strata))
