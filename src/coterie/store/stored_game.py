"""A game that remembers: it asks its store first, and its inner game only for what that lacks."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Block, Coalitions, Game, Indices, Observations, to_text
from coterie.store.observations import Store

log = logging.getLogger("coterie.store")


class StoredGame:
    """A game behind its store. Each new block is stored before it is passed on.

    Args:
        game: Asked for what the store does not know.
        store: Where observations are kept.
        number: Of this game in the store.

    A second question is answered without the game:

    >>> from coterie.game.coalitions import observe_all
    >>> from coterie.game.toy import majority
    >>> game = StoredGame(majority(3), Store(":memory:"), number=1)
    >>> grand = np.ones((1, 3), dtype=bool)
    >>> first, again = (observe_all(game, grand).nll.item() for _ in range(2))
    >>> first, again, game.hits
    (-1.0, -1.0, 1)
    """

    def __init__(self, game: Game, store: Store, number: int):
        self.inner, self.store, self.number = game, store, number
        self.hits = 0
        """Observations (coalition × sequence) answered from the store."""
        self.recalled: Callable[[Coalitions, Indices], None] = lambda coalitions, sequences: None
        """Told every question of which the store knew a part."""

    @property
    def n_players(self) -> int:
        """Number of players of the inner game."""
        return self.inner.n_players

    @property
    def n_sequences(self) -> int:
        """Number of texts of the inner game."""
        return self.inner.n_sequences

    def known_coalitions(self) -> set[str]:
        """Coalitions the store knows on every sequence, in their text form."""
        # Only coalitions known on all sequences: half-known ones still have to be asked.
        return self.store.whole(self.number, self.n_sequences)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Yield what is known, with the seconds it once took, then what is new."""
        texts = [to_text(coalition) for coalition in coalitions]
        known, table, seconds = self.store.known(self.number, texts, sequences)
        self.hits += int(known.sum())
        if known.any():
            self.recalled(coalitions, sequences)
        log.debug("game %d: %d of %d observations known", self.number, known.sum(), known.size)
        # First what is known, at once; then what has to be computed.
        for rows, columns in _rectangles(known):
            corner = np.ix_(rows, columns)
            seen = Observations(table.nll[corner], table.kl[corner], table.top1[corner])
            yield Block(rows, columns, seen, float(seconds[corner].sum()))
        for rows, columns in _rectangles(~known):
            asked = [texts[row] for row in rows]
            for block in self.inner.observe(coalitions[rows], sequences[columns]):
                # Stored before it is passed on, so a run that is killed here loses nothing.
                self.store.add(self.number, asked, sequences[columns], block)
                yield Block(
                    rows[block.rows], columns[block.columns], block.observations, block.seconds
                )


def _rectangles(wanted: NDArray[np.bool_]) -> Iterator[tuple[Indices, Indices]]:
    """Tile the True cells by rectangles: rows that want the same columns go together."""
    patterns: dict[bytes, list[int]] = defaultdict(list)
    for row, columns in enumerate(wanted):
        patterns[columns.tobytes()].append(row)
    for rows in patterns.values():
        columns = np.flatnonzero(wanted[rows[0]])
        if len(columns):
            yield np.array(rows), columns
