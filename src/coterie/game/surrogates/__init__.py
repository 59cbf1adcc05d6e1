"""Cheap stand-ins for a value function, with held-out fidelity.

A `Surrogate` is a way of fitting; a `Predictor` is what it fitted. Fitting many replicates in one
call (folds of a cross-validation, bootstrap resamples) is part of the protocol, because errors and
fidelity need tens of refits and some surrogates fit them together far faster than one by one.

    paper       the paper's two-layer network
    training    many small networks trained side by side
    pairwise    ridge on single players and pairs, closed form
    process     a Gaussian process: pairs, a rest, and predictive deviations
    growing     the same process, learning coalition by coalition
    ensemble    many members of one surrogate, mean and spread
    explained   Shapley regression: its outputs are the contributions
    fidelity    held-out agreement with the true game
    choice      which surrogate to believe
    watched     a surrogate that reports how many fits it has made
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector


class Predictor(Protocol):
    """A fitted value function: cheap, smooth, wrong by an amount that fidelity measures."""

    def predict(self, coalitions: Coalitions) -> Vector:
        """Predicted values, ``(n_coalitions,)``."""
        ...

    def marginals(self, base: Coalitions) -> Matrix:
        """f(m ∪ i) − f(m \\ i) for every base coalition m and player i, ``(n_base, n_players)``."""
        ...


class Surrogate(Protocol):
    """A way to fit a predictor to evaluated coalitions."""

    @property
    def name(self) -> str:
        """What a report calls it."""

    def fit(
        self, coalitions: Coalitions, targets: Vector, *, rng: np.random.Generator
    ) -> Predictor:
        """Fit one predictor to values ``(n_coalitions,)``.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: Their values, ``(n_coalitions,)``.
            rng: Starts the fit; a fit in closed form does not use it.
        """
        ...

    def refit(
        self,
        coalitions: Coalitions,
        targets: Matrix,
        rows: Sequence[Indices],
        *,
        rngs: Sequence[np.random.Generator],
    ) -> Sequence[Predictor]:
        """Fit one predictor per replicate: replicate r sees ``rows[r]`` of the coalitions.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: ``(n_replicates, n_coalitions)``: each replicate may see other values.
            rows: All of one length; a row may repeat.
            rngs: One per replicate. Generators in the same state make the replicates differ by
                their data alone.
        """
        ...


def switched_marginals(predict: Callable[[Coalitions], Vector], base: Coalitions) -> Matrix:
    """The marginals of any predictor, by asking it twice for every player."""
    marginals = np.empty(base.shape)
    for player in range(base.shape[1]):
        # Two copies a player: one with the player, one without, whatever the base holds.
        joined, without = base.copy(), base.copy()
        joined[:, player], without[:, player] = True, False
        marginals[:, player] = predict(joined) - predict(without)
    return marginals
