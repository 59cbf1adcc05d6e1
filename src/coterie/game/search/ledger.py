"""The account of a search: what it asked of a game, what came back, and what that cost."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from coterie.game.coalitions import (
    Coalition,
    Coalitions,
    Game,
    Indices,
    Matrix,
    Vector,
    distinct,
    sizes,
)
from coterie.game.prefixes import layers_executed
from coterie.game.toy import game_of


class Ledger:
    """Asks a game and remembers every answer, so that no coalition is asked twice on one text.

    A coalition's value is minus its mean loss over the sequences. A loss that is not finite is read
    as ``floor`` and counted.

    Args:
        game: The game to ask.
        floor: What a loss that is not finite is read as; see `coterie.game.utilities.floor_nll`.
        quantity: The loss: the negative log-likelihood, or the divergence from the full model.
        sequences: The texts to ask about; all of them by default.

    Attributes:
        game: The game that is asked.
        floor: What a loss that is not finite is read as.
        layer_sequences: Σ over (coalition, sequence) asked of the coalition's size. Times the
            length of a sequence, these are the layer-tokens asked.
        layers_executed: Layers × texts that an engine runs which computes a prefix once a question.
        not_finite: Losses that were read as the floor.
    """

    def __init__(
        self,
        game: Game,
        *,
        floor: float,
        quantity: Literal["nll", "kl"] = "nll",
        sequences: Indices | None = None,
    ) -> None:
        self.n_players = game.n_players
        self.sequences = np.arange(game.n_sequences) if sequences is None else sequences
        self.layer_sequences = self.layers_executed = 0
        self.not_finite = 0
        self.game, self.floor, self._quantity = game, floor, quantity
        # Rows are found by their bits: a coalition has one row, however often it is asked.
        self._rows: dict[bytes, int] = {}
        self._coalitions = np.zeros((0, game.n_players), dtype=bool)
        self._losses = np.zeros((0, len(self.sequences)))

    @classmethod
    def of(cls, value: Callable[[Coalitions], Vector], n_players: int) -> "Ledger":
        """An account with a plain value function."""
        return cls(game_of(n_players, value), floor=np.inf)

    @property
    def n_sequences(self) -> int:
        """Texts that can be asked about."""
        return len(self.sequences)

    @property
    def n_asked(self) -> int:
        """Distinct coalitions asked on at least one text."""
        return len(self._rows)

    def losses(self, coalitions: Coalitions, columns: Indices | None = None) -> Matrix:
        """Losses ``(n_coalitions, n_columns)`` on some of the sequences, asking what is new."""
        columns = np.arange(self.n_sequences) if columns is None else columns
        rows = self._rows_of(coalitions)
        # Only NaN is asked: a value, even the floor, is an answer.
        missing = np.isnan(self._losses[np.ix_(rows, columns)])
        if missing.any():
            self._ask(rows, columns, missing)
        return self._losses[np.ix_(rows, columns)]

    def take_over(self, coalitions: Coalitions, losses: Matrix) -> None:
        """Remember what another account of the same game on the same texts has heard.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            losses: Theirs, ``(n_coalitions, n_sequences)``; NaN where they were not asked.
        """
        rows = self._rows_of(coalitions)
        known = ~np.isnan(losses)
        # What this account has heard itself stands.
        fresh = known & np.isnan(self._losses[rows])
        self._losses[rows] = np.where(fresh, losses, self._losses[rows])

    def value(self, coalitions: Coalitions) -> Vector:
        """Values ``(n_coalitions,)`` on all sequences, asking what is new."""
        return -self.losses(coalitions).mean(axis=1)

    def asked(self, coalitions: Coalitions) -> np.ndarray:
        """Which of the coalitions were asked on all sequences, ``(n_coalitions,)``."""
        rows = np.array([self._rows.get(row.tobytes(), -1) for row in np.packbits(coalitions, 1)])
        # A coalition never met maps to the last row, which is False.
        whole = np.append(~np.isnan(self._losses).any(axis=1), False)
        return whole[rows]

    def met(self, coalitions: Coalitions) -> np.ndarray:
        """Which of the coalitions were asked on any sequence at all, ``(n_coalitions,)``."""
        return np.array([row.tobytes() in self._rows for row in np.packbits(coalitions, 1)], bool)

    def seen(self) -> tuple[Coalitions, Matrix]:
        """Every coalition asked, in order, and its losses; NaN on texts it was not asked on."""
        return self._coalitions.copy(), self._losses.copy()

    def known(self, size: int | None = None) -> tuple[Coalitions, Vector]:
        """Coalitions asked on all sequences, in order, and their values; of one size if given."""
        whole = ~np.isnan(self._losses).any(axis=1)
        if size is not None:
            whole &= sizes(self._coalitions) == size
        return self._coalitions[whole], -self._losses[whole].mean(axis=1)

    def estimates(self) -> tuple[Coalitions, Vector, Vector]:
        """Every coalition asked on four texts or more, its value, and that value's standard error.

        A coalition asked on all texts has no error. Of one asked on some, the value is what it
        would be if it differed on the others from the usual pattern of losses as it does on these.
        """
        seen = ~np.isnan(self._losses)
        counts = seen.sum(axis=1)
        whole = counts == self.n_sequences
        # Four texts give a standard error worth having; the pattern needs one read in full.
        enough = whole | (counts >= 4) & whole.any()
        usual = self._losses[whole].mean(axis=0) if whole.any() else np.zeros(self.n_sequences)
        against = np.where(seen, self._losses - usual, 0.0)[enough]
        means = against.sum(axis=1) / counts[enough]
        squares = (np.where(seen[enough], against - means[:, None], 0.0) ** 2).sum(axis=1)
        variances = squares / np.maximum(counts[enough] - 1, 1) / counts[enough]
        # The finite-population correction: with every text read no error is left.
        errors = np.sqrt(variances * (1 - counts[enough] / self.n_sequences))
        return self._coalitions[enough], -(means + usual.mean()), errors

    def best(self, size: int) -> tuple[Coalition, float]:
        """The best coalition of a size among those asked on all sequences; the first if equal."""
        coalitions, values = self.known(size)
        best = int(values.argmax())
        return coalitions[best], float(values[best])

    def _rows_of(self, coalitions: Coalitions) -> Indices:
        keys = [row.tobytes() for row in np.packbits(coalitions, axis=1)]
        fresh = [k for k, key in enumerate(keys) if key not in self._rows]
        if fresh:
            # A coalition that is new twice in one question gets one row.
            fresh = [fresh[k] for k in distinct(coalitions[fresh])[0]]
            for k in fresh:
                self._rows[keys[k]] = len(self._rows)
            self._coalitions = np.concatenate([self._coalitions, coalitions[fresh]])
            unknown = np.full((len(fresh), self.n_sequences), np.nan)
            self._losses = np.concatenate([self._losses, unknown])
        return np.array([self._rows[key] for key in keys], dtype=np.intp)

    def _ask(self, rows: Indices, columns: Indices, missing: np.ndarray) -> None:
        """Ask in rectangles: rows that lack the same columns together."""
        # One question per pattern of missing texts: engines answer rectangles.
        patterns, which = np.unique(missing, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            if not pattern.any():
                continue
            some = np.unique(rows[which.reshape(-1) == number])
            lacking = columns[pattern]
            for block in self.game.observe(self._coalitions[some], self.sequences[lacking]):
                losses = getattr(block.observations, self._quantity)
                finite = np.isfinite(losses)
                self.not_finite += int((~finite).sum())
                corner = np.ix_(some[block.rows], lacking[block.columns])
                self._losses[corner] = np.where(finite, losses, self.floor)
            self.layer_sequences += int(sizes(self._coalitions[some]).sum()) * len(lacking)
            self.layers_executed += layers_executed(self._coalitions[some]) * len(lacking)
