"""OWL: layers with more outliers stay denser (Yin et al. 2023, arXiv:2310.05175).

An outlier is a weight whose Wanda score |W_ij| · ‖X_j‖ is more than M times the mean score of its
layer. Density is the target's plus the layer's share of outliers, scaled to a width of 2 λ.
"""

from collections.abc import Sequence

import numpy as np
import torch

from coterie.game.coalitions import Vector
from coterie.sparsity.allocation import allocate, scaled
from coterie.sparsity.bounds import Bounds
from coterie.sparsity.calibration import PruningTask, dense_inputs
from coterie.sparsity.levels import Statistics
from coterie.sparsity.linears import LinearMap
from coterie.sparsity.units import Units

OUTLIER, WIDTH = 5.0, 0.08
"""M and λ as published for most models; LLaMA-13B and some others were given M = 7."""


def outlier_ratios(task: PruningTask, units: Units) -> Vector:
    """Share of outliers among the weights of each unit, ``(n_units,)``. Costs one pass.

    Args:
        task: The model and the calibration texts; its pruner must know the norms of inputs, as
            Wanda does.
        units: What has a sparsity of its own.
    """
    ratios = []
    for layer, maps, statistics in dense_inputs(task):
        for block in units.names[layer] or (None,):
            mine = [
                pair
                for pair in zip(maps, statistics, strict=True)
                if block is None or pair[0].block == block
            ]
            ratios.append(_ratio(mine))
    return np.array(ratios)


def owl(
    ratios: Vector, weights: Vector, target: float, *, bounds: Bounds, width: float = WIDTH
) -> Vector:
    """Sparsity of each unit from its outlier ratio, ``(n_units,)``.

    Args:
        ratios: From `outlier_ratios`.
        weights: Prunable weights of each unit, ``(n_units,)``.
        target: Share of all weights that become zero.
        bounds: The least and the most sparsity of a unit.
        width: λ: the densest and the sparsest unit are twice this apart.
    """
    return allocate(scaled(ratios), weights, target, spread=width, bounds=bounds)


def _ratio(pairs: Sequence[tuple[LinearMap, Statistics]]) -> float:
    norms = [None if known.squares is None else known.squares.sqrt() for _, known in pairs]
    reached = [norm for norm in norms if norm is not None]
    usual = torch.stack([norm.mean() for norm in reached]).mean() if reached else 1.0
    scores = [
        # What no input reached is taken to be reached by usual ones.
        (found.weight.abs().float() * (usual if norm is None else norm)).flatten()
        for (found, _), norm in zip(pairs, norms, strict=True)
    ]
    # Outliers are counted against the mean of the whole unit, not of one map.
    together = torch.cat(scores)
    return float((together > OUTLIER * together.mean()).double().mean())
