"""How far a surrogate can be trusted: its agreement with true values it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Coalitions, Vector, sizes
from coterie.game.surrogates import Surrogate

FOLDS = 5

LEAST_R2 = 0.5
"""Held-out R² at the size in question below which a surrogate is not believed player by player."""


@dataclass(frozen=True)
class Agreement:
    """How predictions agree with true values on coalitions held out of the fit."""

    r2: float
    """Share of the variance explained; below 0 the plain mean would do better. NaN: no variance."""
    spearman: float
    """Rank correlation; NaN where either side is constant or fewer than three are known."""
    n_coalitions: int


@dataclass(frozen=True)
class Fidelity:
    """Held-out agreement of one surrogate, over all coalitions and size by size."""

    surrogate: str
    folds: int
    overall: Agreement
    """Over all sizes: mostly how well the surrogate knows that fewer players are worse."""
    by_size: Mapping[int, Agreement]
    """Within one size, against that size's own mean: what the choice of a cut depends on."""

    def at(self, size: int) -> tuple[int, Agreement]:
        """The agreement at the evaluated size nearest to ``size``, and which size that is."""
        nearest = min(self.by_size, key=lambda known: (abs(known - size), known))
        return nearest, self.by_size[nearest]


def held_out_fidelity(
    surrogate: Surrogate,
    coalitions: Coalitions,
    targets: Vector,
    *,
    rng: np.random.Generator,
    folds: int = FOLDS,
) -> tuple[Fidelity, Vector]:
    """Fidelity by cross-validation over distinct coalitions, and the held-out predictions.

    Folds are dealt size by size, so that each holds its share of every size. Training sets that
    would be shorter repeat one or two of their rows: all folds are then fitted together.

    Args:
        surrogate: What is fitted.
        coalitions: ``(n_coalitions, n_players)``.
        targets: Their values, ``(n_coalitions,)``.
        rng: Deals the folds and starts the fits.
        folds: Parts the coalitions are dealt to.

    Examples:
        >>> from coterie.game.surrogates.pairwise import Pairwise
        >>> rng = np.random.default_rng(0)
        >>> known = rng.random((80, 6)) < 0.7
        >>> found, _ = held_out_fidelity(Pairwise(), known, known @ np.arange(6.0), rng=rng)
        >>> round(found.overall.r2, 2)
        1.0
    """
    folds = min(folds, len(targets))
    # One coalition cannot be held out of itself.
    if folds < 2:
        raise ValueError(f"fidelity needs at least 2 coalitions, got {len(targets)}")
    fold = deal_folds(coalitions, folds, rng)
    # Each fold is predicted by a fit that never saw it.
    training = [np.flatnonzero(fold != k) for k in range(folds)]
    longest = max(len(rows) for rows in training)
    training = [np.resize(rng.permutation(rows), longest) for rows in training]
    repeated = np.tile(targets, (folds, 1))
    fitted = surrogate.refit(coalitions, repeated, training, rngs=rng.spawn(folds))
    predictions = np.empty(len(targets))
    for k, predictor in enumerate(fitted):
        predictions[fold == k] = predictor.predict(coalitions[fold == k])
    held = sizes(coalitions)
    rows = {int(size): held == size for size in np.unique(held)[::-1]}
    # Within one size the easy part is gone: that fewer players are worse.
    by_size = {size: agreement(targets[of], predictions[of]) for size, of in rows.items()}
    overall = agreement(targets, predictions)
    return Fidelity(surrogate.name, folds, overall, by_size), predictions


def deal_folds(coalitions: Coalitions, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Which fold each coalition belongs to, ``(n_coalitions,)``: at random, evenly in each size.

    Args:
        coalitions: ``(n_coalitions, n_players)``.
        folds: Parts the coalitions are dealt to.
        rng: Deals them.
    """
    order = rng.permutation(len(coalitions))
    # Shuffled, then sorted by size: each fold gets its share of every size.
    order = order[np.argsort(sizes(coalitions)[order], kind="stable")]
    fold = np.empty(len(coalitions), dtype=np.intp)
    fold[order] = np.arange(len(coalitions)) % folds
    return fold


def agreement(true: Vector, guess: Vector) -> Agreement:
    """How predictions agree with true values, both ``(n_coalitions,)``."""
    total = ((true - true.mean()) ** 2).sum()
    # Against the plain mean: below 0 the surrogate is worse than no surrogate.
    r2 = 1 - ((true - guess) ** 2).sum() / total if total > 0 else np.nan
    ranked = len(true) > 2 and np.ptp(true) > 0 and np.ptp(guess) > 0
    # Spearman is Pearson's correlation of the ranks.
    spearman = np.corrcoef(_ranks(true), _ranks(guess))[0, 1] if ranked else np.nan
    return Agreement(float(r2), float(spearman), len(true))


def _ranks(values: Vector) -> Vector:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
