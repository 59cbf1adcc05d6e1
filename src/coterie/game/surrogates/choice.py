"""Which surrogate to believe: the one that agrees best with coalitions it has not seen."""

from collections.abc import Sequence

import numpy as np

from coterie.game.coalitions import Coalitions, Vector
from coterie.game.surrogates import Surrogate
from coterie.game.surrogates.fidelity import Fidelity, held_out_fidelity


def most_faithful(
    surrogates: Sequence[Surrogate],
    coalitions: Coalitions,
    targets: Vector,
    *,
    size: int,
    rng: np.random.Generator,
) -> tuple[Surrogate, list[Fidelity]]:
    """The surrogate with the highest held-out R² at the size nearest to ``size``, and all of them.

    All are judged on the same folds. R² decides, not the rank correlation: a contribution is a
    difference of values. Of equals, the first named is chosen.

    Args:
        surrogates: The candidates.
        coalitions: ``(n_coalitions, n_players)``.
        targets: Their values, ``(n_coalitions,)``.
        size: Kept players, locked ones included.
        rng: Decides every draw.
    """
    # One seed for all candidates, so that all are judged on the same folds.
    seed = int(rng.integers(2**63))
    found = [
        held_out_fidelity(surrogate, coalitions, targets, rng=np.random.default_rng(seed))[0]
        for surrogate in surrogates
    ]
    # A size of constant values has no R² and cannot win.
    scores = np.nan_to_num([fidelity.at(size)[1].r2 for fidelity in found], nan=-np.inf)
    return surrogates[int(scores.argmax())], found
