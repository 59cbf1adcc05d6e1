"""From observations to values: what it is worth that a coalition predicts as it does.

Observations are facts and are stored; utilities are pure functions of them, so one evaluation
serves them all. Every value is higher for a better coalition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Indices, Matrix, Observations, Vector

Formula = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Maps means ``(..., n_coalitions)`` and the full model's ``(..., 1)`` to values, broadcasting."""


@dataclass(frozen=True)
class Utility:
    """What a coalition is worth, given the mean of one observed quantity over the sequences."""

    name: str
    quantity: Literal["nll", "kl", "top1"]
    formula: Formula

    def values(self, table: Matrix, full: Vector) -> Vector:
        """Values ``(n_coalitions,)`` of a finite table ``(n_coalitions, n_sequences)``.

        Args:
            full: The same quantity for the full model, ``(n_sequences,)``.
        """
        # The mean over sequences first: utilities are functions of means, not of single losses.
        return self.formula(table.mean(axis=1), full.mean(keepdims=True))


def perplexity_ratio(nll: NDArray[np.float64], full: NDArray[np.float64]) -> NDArray[np.float64]:
    """The paper's value PPL(full) / PPL(S): 1 for the full model, towards 0 as S fails."""
    return np.exp(full - nll)  # arXiv:2602.07804, Section 3; the ratio is taken in the exponent


def log_loss(nll: NDArray[np.float64], full: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nats per token gained over the full model, usually negative; does not flatten at depth."""
    return full - nll


def negative(mean: NDArray[np.float64], full: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minus the mean itself."""
    return -mean


def itself(mean: NDArray[np.float64], full: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean itself."""
    return mean


UTILITIES = {
    utility.name: utility
    for utility in (
        Utility("ppl-ratio", "nll", perplexity_ratio),
        Utility("log-loss", "nll", log_loss),
        Utility("kl", "kl", negative),
        Utility("top1", "top1", itself),
    )
}
"""Every utility by its name."""


def floor_nll(vocabulary: int) -> float:
    """The loss read for a prediction that is not finite: twice that of a uniform guess, nats."""
    return 2 * log(vocabulary)


def at_floor(losses: Vector, vocabulary: int) -> int:
    """How many losses stand at the floor, where those are read that were not finite."""
    return int((losses == floor_nll(vocabulary)).sum())


def read(
    observations: Observations, quantity: Literal["nll", "kl", "top1"], vocabulary: int
) -> tuple[Matrix, int]:
    """A finite table of one quantity, and how many of its entries had to be read as the floor.

    A loss or divergence that is not finite is read as ``floor_nll``, an agreement as 0. No row is
    dropped: the table has the shape of the observations.

    Args:
        observations: What was seen; entries need not be finite.
        quantity: Which of the observed quantities.
        vocabulary: Tokens of the model's vocabulary; sets the floor of a loss.
    """
    table = getattr(observations, quantity)
    bad = ~np.isfinite(table)
    # An agreement has a natural worst; a loss has none, so one is set.
    floor = 0.0 if quantity == "top1" else floor_nll(vocabulary)
    return np.where(bad, floor, table), int(bad.sum())


def clustered_mean(numbers: Vector, clusters: Indices) -> tuple[float, float | None]:
    """The mean of numbers and its standard error when those of one cluster go together.

    Args:
        numbers: ``(n,)``, here one per sequence.
        clusters: ``(n,)``, here the document of each sequence. With fewer than two the error is
            unknown: None.
    """
    mean = float(numbers.mean())
    names, which = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return mean, None
    # Residuals of one cluster add up before they are squared: that is what clusters do to an error.
    sums = np.bincount(which, weights=numbers - mean)
    correction = len(names) / (len(names) - 1)
    return mean, float(np.sqrt(correction * (sums**2).sum()) / len(numbers))
