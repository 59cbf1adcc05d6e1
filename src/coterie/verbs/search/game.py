"""What a search is played on: a model's texts, or a mix of utilities."""

from typing import Protocol

from coterie.game.coalitions import Coalitions, Game, Indices
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SearchMethod
from coterie.game.search.task import Finalists, SearchTask
from coterie.game.utilities import Formula


class SearchedGame(Protocol):
    """A game that `choose` plays, with what it must know of it; a `TextGame` is one, a `Mix` too.

    Attributes:
        stage: What a display calls the search.
        in_full: Whether one question takes the whole of it: races would save nothing, and the same
            sequences that choose decide between the finalists.
        formula: From mean losses to the values that contributions are in.
    """

    @property
    def stage(self) -> str: ...
    @property
    def in_full(self) -> bool: ...
    @property
    def formula(self) -> Formula: ...

    @property
    def game(self) -> Game:
        """The game itself, behind the store."""
        ...

    @property
    def documents(self) -> Indices:
        """The document of each of its sequences, ``(n_sequences,)``: errors are paired by it."""
        ...

    @property
    def floor(self) -> float:
        """What a loss that is not finite is read as."""
        ...

    @property
    def not_finite(self) -> int:
        """Observations that the game itself read as the worst there is."""
        ...

    def known_coalitions(self) -> set[str]:
        """Coalitions the store knew on every sequence, in their text form."""
        ...

    def play(self, method: SearchMethod, ledger: Ledger, task: SearchTask) -> Finalists:
        """What a method finds on it.

        Args:
            method: The search method.
            ledger: The account that asks the game.
            task: Sizes and bounds.
        """
        ...

    def others(self) -> "SearchedGame | None":
        """The same on what chose nothing, to decide between finalists; None without any.

        Only asked of a game that is played in full: others have second texts.
        """
        ...

    def layer_tokens_asked(self, coalitions: Coalitions) -> int:
        """Layer-tokens that distinct coalitions ask for in full."""
        ...

    def account(self, ledger: Ledger) -> tuple[Coalitions, int]:
        """Every distinct coalition asked in a search, and the layer-tokens these took."""
        ...
