"""Search on a pairwise model of a game, where a swap costs nothing to try."""

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix


def climb(
    single: Matrix, pairs: np.ndarray, starts: Coalitions, *, locked: Indices, steps: int = 100
) -> Coalitions:
    """Improve each start by its best swap until none helps; all starts climb at once.

    Each start has a model of its own: its value is Σ b_i z_i + Σ_{i<j} c_ij z_i z_j, with z = 1
    where a player is cut. The size of a start never changes.

    Args:
        single: b, ``(n_starts, n_players)``.
        pairs: c, symmetric with a zero diagonal, ``(n_starts, n_players, n_players)``.
        starts: ``(n_starts, n_players)``.
        locked: Players that are never cut.
        steps: Most swaps of a start.
    """
    cut = (~starts).astype(np.float64)
    movable = np.ones(starts.shape[1], dtype=bool)
    movable[locked] = False
    which = np.arange(len(starts))
    for _ in range(steps):
        # Effect of bringing one player back, or cutting one more, everyone else as they are.
        slope = single + np.matmul(pairs, cut[:, :, None])[:, :, 0]
        gain = slope[:, None, :] - slope[:, :, None] - pairs  # [s, i, j]: i returns, j is cut
        allowed = (cut[:, :, None] > 0) & (cut[:, None, :] == 0) & movable
        gain[~allowed] = -np.inf
        flat = gain.reshape(len(cut), -1)
        best = flat.argmax(axis=1)
        better = flat[which, best] > 1e-12
        if not better.any():
            break
        back, out = np.divmod(best, cut.shape[1])
        cut[which[better], back[better]] = 0
        cut[which[better], out[better]] = 1
    return cut == 0
