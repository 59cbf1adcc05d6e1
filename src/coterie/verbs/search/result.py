"""What a search is asked for, and what it found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coterie.engine.cost import Spent
from coterie.game.coalitions import Coalition, Coalitions, Indices
from coterie.game.search.decide import Decision
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer
from coterie.models.runtimes.serving import Serving
from coterie.verbs.search.game import SearchedGame
from coterie.verbs.search.paper import PaperStudy
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.text_game import TextGame

Allowed = Callable[[Coalitions], NDArray[np.bool_]]
"""Says which coalitions may be chosen at all, ``(n_coalitions,)``."""


@dataclass(frozen=True)
class RepairedRounds:
    """What the repaired part of a search took.

    Attributes:
        asked: Distinct coalitions that were repaired and judged.
        layer_tokens: Executed, refits included.
        seconds: All of it.
        cut_short: The time ended before all that were meant to be were repaired.
    """

    asked: int
    layer_tokens: int
    seconds: float
    cut_short: bool = False

    @property
    def remark(self) -> str:
        """The same in one sentence."""
        return f"{self.asked} coalitions were repaired and compared by what they then lose" + (
            ", as far as the time went" if self.cut_short else ""
        )


@dataclass(frozen=True)
class BlockRounds:
    """What the part of a search among single blocks took, two blocks counted as a layer.

    Attributes:
        asked: Distinct coalitions of blocks that were asked.
        known: How many of these the store knew on every calibration text before.
        layer_tokens_asked: What one coalition at a time would have run.
        before: What the engines of the layers had run.
        spent: What the engines of the blocks have run.
        seconds: All of it.
        seconds_saved: What it would have taken more, had the store known nothing.
        not_finite: Observations that were read as the floor.
    """

    asked: int
    known: int
    layer_tokens_asked: int
    before: Spent
    spent: Spent
    seconds: float
    seconds_saved: float
    not_finite: int

    @property
    def told(self) -> str:
        """How much was asked, in a few words."""
        executed = self.spent.layer_tokens / 1e6
        return (
            f"{self.asked} coalitions of single blocks were compared too"
            f" ({executed:.1f} M layer-tokens executed, {self.seconds:.0f} s)"
        )


@dataclass(frozen=True, eq=False)
class SearchResult:
    # Eager and frozen: the verbs read one result in several places.
    """What a method found on a model, how its finalists stand, and what it asked."""

    played: SearchedGame
    """What was searched: the calibration texts, or a mix of utilities."""
    decisions: list[Decision]
    """One per size, largest first."""
    finalists: list[Answer]
    """Who was decided between, in the order of the decisions' standings."""
    ledger: Ledger
    """The account of the search."""
    union: Ledger
    """The account of the decision: on texts, the calibration and the second texts together."""
    documents: Indices
    """The document of each of the union's sequences."""
    second: TextGame | None
    """The second texts; None where the calibration texts alone decide."""
    layer_tokens_asked: int
    decided_apart: bool = field(default=False, kw_only=True)
    """Whether the finalists of a mix were decided between on other items than those that chose."""
    not_finite: int
    """Observations that were read as the floor."""
    method: str = ""
    asked: Coalitions = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    """Every distinct coalition asked."""
    known: int = 0
    """How many of these the store knew on every calibration text before."""
    out_of_time: bool = False
    seconds_observing: float = 0.0
    seconds_choosing: float = 0.0
    seconds_saved: float = 0.0
    """What choosing would have taken more, had the store known nothing."""
    searched: PaperStudy | None = None
    """The study behind it, where the method is the paper's."""
    remark: str | None = None
    """What the limit was too low for, in one sentence."""
    seconds_spent: float = 0.0
    """Seconds of a given time that observing took in this run."""
    blocks: BlockRounds | None = None
    """What it took to go on among single blocks, beside all else here; None where it did not."""
    repaired: RepairedRounds | None = None
    """What it took to look at the answers again, repaired; None where they were not."""

    def keep(self, size: int) -> Coalition:
        """The coalition chosen at this size."""
        # Sizes are few, so a scan does.
        for decision in self.decisions:
            if int(decision.winner.coalition.sum()) == size:
                return decision.winner.coalition
        raise KeyError(size)

    @property
    def best(self) -> Decision:
        """The decision whose winner has the lowest loss of all sizes."""
        return max(self.decisions, key=lambda decision: decision.winner.value)


@dataclass(frozen=True, eq=False)
class Search:
    """What to look for on an opened model, and within which bounds.

    Attributes:
        method: A name of `coterie.game.search.methods.SEARCH_METHODS`.
        keeps: Sizes to choose a coalition of.
        budget: Most distinct coalitions that the search asks for.
        seconds: Most seconds the search spends observing.
        most_layer_tokens: Most layer-tokens that search and decision ask for.
        seed: Decides every draw.
        allowed: Which coalitions may win; all by default.
        served: What runtimes that are to load the cut ask of it; None where they take any.
    """

    method: str
    keeps: Sequence[int]
    budget: int | None = None
    seconds: float | None = None
    most_layer_tokens: float | None = None
    seed: int = 0
    allowed: Allowed | None = None
    served: Serving | None = None

    @property
    def may_win(self) -> Allowed | None:
        """Which coalitions may be chosen; None where all may."""
        target, served = self.allowed, self.served
        if served is None:
            return target
        if target is None:
            return served.allowed
        return lambda coalitions: target(coalitions) & served.allowed(coalitions)

    @classmethod
    def of(cls, request: Request, keeps: Sequence[int]) -> "Search":
        """The search that a request asks for."""
        return cls(request.method, keeps, request.budget, request.time, seed=request.seed)


def ordered(finalists: Sequence[Answer]) -> list[Answer]:
    """Largest size first, as `decide` has them."""
    return sorted(finalists, key=lambda answer: -int(answer.coalition.sum()))


def remarks_joined(*remarks: str | None) -> str | None:
    """Remarks as one; None where there is none."""
    return "; ".join(one for one in remarks if one) or None
