"""Which surrogate to believe, and how belief grows with the budget."""

from collections.abc import Sequence

import numpy as np

from coterie.game.coalitions import Coalitions, Vector
from coterie.game.surrogates import Surrogate
from coterie.game.surrogates.fidelity import Agreement, Fidelity, agreement, held_out_fidelity


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
    """
    seed = int(rng.integers(2**63))
    found = [
        held_out_fidelity(surrogate, coalitions, targets, rng=np.random.default_rng(seed))[0]
        for surrogate in surrogates
    ]
    scores = np.nan_to_num([fidelity.at(size)[1].r2 for fidelity in found], nan=-np.inf)
    return surrogates[int(scores.argmax())], found


def learning_curve(
    surrogate: Surrogate,
    coalitions: Coalitions,
    targets: Vector,
    budgets: Sequence[int],
    *,
    rng: np.random.Generator,
    held_out: float = 0.25,
) -> list[tuple[int, Agreement]]:
    """Agreement on coalitions set aside, for fits to more and more of the others.

    Budgets beyond what remains after setting ``held_out`` aside are left out.
    """
    order = rng.permutation(len(targets))
    aside, rest = np.split(order, [round(held_out * len(targets))])
    curve = []
    for budget in (budget for budget in budgets if budget <= len(rest)):
        rows = rest[:budget]
        fitted = surrogate.fit(coalitions[rows], targets[rows], rng=rng)
        told = agreement(targets[aside], fitted.predict(coalitions[aside]))
        curve.append((budget, told))
    return curve
