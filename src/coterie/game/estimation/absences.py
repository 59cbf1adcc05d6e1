"""What the loss rises by when one player alone is absent: measured, not learnt."""

from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector, sizes
from coterie.game.utilities import clustered_mean


@dataclass(frozen=True, eq=False)
class Absences:
    """The rise in loss of every single absence that was observed; NaN for all other players."""

    losses: Vector
    """Nats per token above the full model on the same texts, ``(n_players,)``."""
    errors: Vector
    """Standard errors, paired by document, ``(n_players,)``; NaN of a single document."""
    sequences: Indices
    """Texts that each was observed on, ``(n_players,)``; of a lost race only some."""

    @property
    def any(self) -> bool:
        """Whether any single absence was observed at all."""
        return bool(self.sequences.any())

    def costlier_than(self, loss: float) -> Indices:
        """Players that alone cost more than this; those not measured are not among them."""
        return np.flatnonzero(np.nan_to_num(self.losses, nan=-np.inf) > loss)


def measured_absences(
    coalitions: Coalitions, losses: Matrix, full: Vector, documents: Indices
) -> Absences:
    """The single absences among some observed coalitions.

    Args:
        coalitions: ``(n_coalitions, n_players)``.
        losses: Their losses, ``(n_coalitions, n_sequences)``; NaN on texts they were not asked on.
        full: Losses of the full model, ``(n_sequences,)``.
        documents: Which document each sequence comes from, ``(n_sequences,)``.

    Examples:
        >>> alone = np.array([[False, True], [True, True]])
        >>> table = np.array([[5.0, 6.0], [4.0, 4.0]])
        >>> found = measured_absences(alone, table, table[1], np.arange(2))
        >>> found.losses.tolist(), found.sequences.tolist()
        ([1.5, nan], [2, 0])
    """
    n_players = coalitions.shape[1]
    rise, errors = np.full(n_players, np.nan), np.full(n_players, np.nan)
    sequences = np.zeros(n_players, dtype=np.intp)
    for row in np.flatnonzero(sizes(coalitions) == n_players - 1):
        seen = ~np.isnan(losses[row])
        if not seen.any():
            continue
        player = int(np.flatnonzero(~coalitions[row])[0])
        mean, error = clustered_mean((losses[row] - full)[seen], documents[seen])
        rise[player], sequences[player] = mean, seen.sum()
        errors[player] = np.nan if error is None else error
    return Absences(rise, errors, sequences)
