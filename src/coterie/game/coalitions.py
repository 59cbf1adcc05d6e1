"""The nouns of the game: coalitions, the observations made of them, and their values."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Coalitions = NDArray[np.bool_]
"""Boolean array ``(n_coalitions, n_players)``: True marks kept players."""

Coalition = NDArray[np.bool_]
"""One coalition, ``(n_players,)``: True marks kept players."""

Vector = NDArray[np.float64]
"""Float array of one axis."""

Matrix = NDArray[np.float64]
"""Float array of two axes."""

Indices = NDArray[np.intp]
"""Integer array of one axis."""

ValueFunction = Callable[[Coalitions], Vector]
"""Maps coalitions ``(n_coalitions, n_players)`` to values ``(n_coalitions,)``; higher is better."""


@dataclass(frozen=True, eq=False)
class Observations:
    """What was seen of some coalitions on some sequences: three arrays of one shape.

    A whole table has shape ``(n_coalitions, n_sequences)``. Means are per predicted token. A number
    that was not finite is kept as it is: `coterie.game.utilities` reads it as a fixed floor.
    """

    nll: NDArray[np.float64]
    """Negative log-likelihood, nats per token."""
    kl: NDArray[np.float64]
    """KL divergence from the full model's prediction to this one's, nats per token."""
    top1: NDArray[np.float64]
    """Share of tokens where this coalition's likeliest token is the full model's."""

    def __getitem__(self, rows) -> "Observations":
        return Observations(self.nll[rows], self.kl[rows], self.top1[rows])

    @classmethod
    def empty(cls, n_coalitions: int, n_sequences: int) -> "Observations":
        """A table with nothing in it yet: every entry NaN."""
        return cls(*(np.full((n_coalitions, n_sequences), np.nan) for _ in range(3)))

    def put(self, block: "Block") -> None:
        """Write a finished block into this table, in place."""
        # Rows and columns index what was asked, which need not be all there is.
        corner = np.ix_(block.rows, block.columns)
        self.nll[corner] = block.observations.nll
        self.kl[corner] = block.observations.kl
        self.top1[corner] = block.observations.top1


@dataclass(frozen=True, eq=False)
class Block:
    """A finished rectangle of an `observe` call: ``rows`` × ``columns`` of what was asked.

    ``rows`` index into the coalitions asked, ``columns`` into the sequences asked;
    ``observations`` has shape ``(len(rows), len(columns))``.
    """

    rows: Indices
    columns: Indices
    observations: Observations
    seconds: float = 0.0


class Game(Protocol):
    """Anything whose coalitions can be observed: a language model on texts, or a toy."""

    @property
    def n_players(self) -> int:
        """Number of players, cut or not."""

    @property
    def n_sequences(self) -> int:
        """Number of texts each coalition can be observed on; a toy game has one."""

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, block by block, as soon as known.

        The blocks tile the whole rectangle ``(len(coalitions), len(sequences))`` exactly once.
        """
        ...


def observe_all(
    game: Game, coalitions: Coalitions, sequences: Indices | None = None
) -> Observations:
    """The whole table, shape ``(n_coalitions, n_sequences)``; repeats are asked once.

    Args:
        game: The game to ask.
        coalitions: ``(n_coalitions, n_players)``.
        sequences: Which of the game's sequences; all by default.
    """
    if sequences is None:
        sequences = np.arange(game.n_sequences)
    # Distinct rows only: a game may take long over each.
    distinct, inverse = np.unique(coalitions, axis=0, return_inverse=True)
    table = Observations.empty(len(distinct), len(sequences))
    for block in game.observe(distinct, sequences):
        table.put(block)
    return table[inverse.reshape(-1)]


def to_text(coalition: NDArray[np.bool_]) -> str:
    """The text form of one coalition: ``"1101"`` keeps players 0, 1 and 3."""
    return "".join("1" if kept else "0" for kept in coalition)


def from_text(texts: list[str]) -> Coalitions:
    """Coalitions from their text form, shape ``(len(texts), n_players)``."""
    return np.array([[character == "1" for character in text] for text in texts], dtype=bool)


def distinct(coalitions: Coalitions) -> tuple[Indices, Indices]:
    """Rows where each distinct coalition is first met, ascending, and which of them every row is.

    ``coalitions[first][inverse]`` equals ``coalitions``.
    """
    packed = np.packbits(coalitions, axis=1)
    words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    keys = words.view(np.uint64)  # whole words sort many times faster than rows of Booleans
    axis = None if keys.shape[1] == 1 else 0
    _, first, inverse = np.unique(keys, axis=axis, return_index=True, return_inverse=True)
    # np.unique sorts; first and inverse are put back in the order of asking.
    order = np.argsort(first)
    return first[order], np.argsort(order)[inverse.reshape(-1)]


def sizes(coalitions: Coalitions) -> Indices:
    """Number of kept players of each coalition, ``(n_coalitions,)``."""
    return coalitions.sum(axis=1)
