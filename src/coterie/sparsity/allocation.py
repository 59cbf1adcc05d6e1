"""How sparse each layer becomes: shares of one global target, by what the layers contribute.

Take the loss that a layer's sparsity s costs to be its contribution φ times exp(κ s): it grows
ever faster, and in proportion to what the layer is worth. Minimising Σ φ exp(κ s) under
Σ w s = S Σ w, with w weights in each layer, gives by Lagrange

    s = c − ln(φ / w) / κ:

one shift c, which the target sets, and one spread 1/κ, which calibration texts choose. Sparsity
falls as the contribution per weight rises. The sparsity-from-Shapley-value idea is that of Sun et
al. 2025, arXiv:2505.01731, whose own formula is not public; the derivation is ours. Units are
layers, or blocks of layers; this page knows no model.
"""

import numpy as np

from coterie.game.coalitions import Indices, Vector
from coterie.sparsity.bounds import FREE, Bounds, SparsityError

LEAST_SHARE = 0.02
"""Contributions below this share of the mean are raised to it before their logarithm is taken."""

SPREADS = (0.0, 0.02, 0.04, 0.06, 0.08, 0.11, 0.15, 0.2)
"""Spreads tried: sparsity that a unit gains when its contribution per weight falls e-fold."""


def allocate(
    importance: Vector, weights: Vector, target: float, *, spread: float, bounds: Bounds
) -> Vector:
    """Sparsity of each unit, ``clip(c − spread · importance)``, with weighted mean ``target``.

    What a bound cuts off is shared out among the units it does not touch, in equal parts per
    weight. Exact: the mean is piecewise linear in the shift c, so c is read off between two kinks.

    Args:
        importance: ``(n_units,)``, finite; a higher one is never sparser.
        weights: Prunable weights of each unit, ``(n_units,)``.
        target: Share of all weights that become zero.
        spread: Sparsity per unit of importance; 0 is uniform.
        bounds: The least and the most sparsity of a unit.

    Raises:
        SparsityError: the bounds cannot meet the target.
    """
    bounds.check(target)
    # The mean of clip(c − tilt) rises with c and bends only where a unit meets a bound.
    tilt = spread * importance
    kinks = np.sort(np.concatenate([tilt + bounds.least, tilt + bounds.most]))
    reached = np.clip(kinks[:, None] - tilt, bounds.least, bounds.most) @ (weights / weights.sum())
    # Between two such kinks it is linear in c, so interpolation gives c exactly.
    shift = np.interp(target, reached, kinks)
    return np.clip(shift - tilt, bounds.least, bounds.most)


def importance_of(contributions: Vector, weights: Vector) -> Vector:
    """Logarithm of each unit's contribution per weight, ``(n_units,)``.

    A unit that cannot be cut has no contribution (NaN): it counts as the most important one.
    Contributions near or below zero are read as a small positive share of the mean.

    Raises:
        SparsityError: no unit contributes anything, so nothing tells them apart.
    """
    known = ~np.isnan(contributions)
    mean = contributions[known].mean() if known.any() else 0.0
    if not mean > 0:
        raise SparsityError(
            "the contributions of the layers sum to zero or less, so they do not say which layers "
            "should stay denser: give --allocation uniform, or more calibration text"
        )
    # A sampled contribution may be zero or below, where ln(φ / w) does not exist.
    floored = np.maximum(contributions[known], LEAST_SHARE * mean)
    scores = np.empty(len(contributions))
    scores[known] = np.log(floored / weights[known])
    scores[~known] = scores[known].max()
    # Only differences count: the shift c takes up any constant.
    return scores - scores.mean()


def scaled(scores: Vector) -> Vector:
    """Scores brought to 0 … 2 linearly, as OWL does with its outlier ratios (arXiv:2310.05175)."""
    width = np.ptp(scores)
    return 2 * (scores - scores.min()) / width if width > 0 else np.zeros_like(scores)


def in_proportion(scores: Vector, weights: Vector, target: float, *, bounds: Bounds) -> Vector:
    """Sparsity such that what is kept beyond the least goes to units in proportion to a score.

    ECoFLaP's rule (arXiv:2310.02998): each unit keeps at least 1 − most of its weights, and shares
    in the rest by its score; what a full unit cannot take goes to the others.

    Args:
        scores: Of whole units, not per weight, ``(n_units,)``, none negative.
        weights: Prunable weights of each unit, ``(n_units,)``.
        target: Share of all weights that become zero.
        bounds: The least and the most sparsity of a unit.
    """
    bounds.check(target)
    capacity = (bounds.most - bounds.least) * weights
    to_give = float((bounds.most - target) * weights.sum())
    given, open_ = np.zeros_like(weights, dtype=np.float64), np.ones(len(weights), dtype=bool)
    # A unit that scores zero may have to take what full units cannot.
    share = np.maximum(scores, 1e-12 * max(float(scores.max()), 1e-300))
    for _ in range(len(weights)):
        # Full units drop out and the others share what is left: at most one round per unit.
        wanted = share * (to_give - given[~open_].sum()) / share[open_].sum()
        full = open_ & (wanted >= capacity)
        given = np.where(open_, np.minimum(wanted, capacity), given)
        open_ &= ~full
        if not full.any() or not open_.any():
            break
    return bounds.most - given / weights


def to_pattern(
    sparsity: Vector, weights: Vector, group: int, bounds: Bounds | None = None
) -> Indices:
    """Weights kept in every group of ``group``, unit by unit: N of N:M, ``(n_units,)``.

    Sparsities are rounded down to multiples of 1/M that lie within the bounds, if any do; then
    single steps are given where most was lost, or taken where most was added, as far as that brings
    the total nearer to what it was. The order of sparsities is kept.

    Args:
        sparsity: Of each unit, ``(n_units,)``.
        weights: Prunable weights of each unit, ``(n_units,)``.
        group: M of the pattern.
        bounds: The least and the most sparsity of a unit; None is any.
    """
    least, most = steps_within(bounds or FREE, group)
    # No multiple of 1/M lies between the bounds, and M cannot change: the bounds give way.
    if least > most:
        least, most = steps_within(FREE, group)
    steps = np.clip(np.floor(sparsity * group + 1e-9).astype(np.intp), least, most)
    lost = sparsity * group - steps
    gap = float(lost @ weights)
    sign, limit = (1, most) if gap >= 0 else (-1, least)
    # Corrected first are the units that rounding moved most; ties keep the order of sparsities.
    order = np.lexsort([-sign * sparsity, -sign * lost])
    order = order[steps[order] != limit]
    # Units differ in size, so the number of steps is chosen by the weights they add up to.
    gaps = abs(gap) - np.concatenate([[0.0], np.cumsum(weights[order])])
    steps[order[: int(np.abs(gaps).argmin())]] += sign
    return group - steps


def steps_within(bounds: Bounds, group: int) -> tuple[int, int]:
    """Fewest and most steps of 1/M that lie within bounds; the fewest may be more than the most."""
    return int(np.ceil(bounds.least * group - 1e-6)), int(np.floor(bounds.most * group + 1e-6))


def mean_of(sparsity: Vector, weights: Vector) -> float:
    """Share of all weights that such sparsities make zero."""
    return float(sparsity @ weights / weights.sum())
