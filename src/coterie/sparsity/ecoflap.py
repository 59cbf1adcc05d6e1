"""ECoFLaP-style allocation: one zeroth-order score of the whole loss sets each layer's sparsity.

After Sung et al. 2023, arXiv:2310.02998: no gradient is computed; the loss is read with a layer's
weights w moved by ± ε z, z standard normal, and the mean of the squared slopes estimates ‖∇L‖².
A unit scores ‖w‖ · ‖∇L‖, first order what zeroing it would do, and is kept in proportion.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from coterie.engine.cost import Spent
from coterie.game.coalitions import Vector
from coterie.game.utilities import read
from coterie.models.families.fields import text_config
from coterie.sparsity.allocation import in_proportion
from coterie.sparsity.bounds import Bounds
from coterie.sparsity.linears import LinearMap, linear_maps
from coterie.sparsity.units import Units
from coterie.sparsity.variant_game import AS_IT_IS, ChoiceGame, JudgedModel

STEP, COARSE_STEP = 1e-3, 0.05
"""ε, in units of the root mean square weight of the unit; the coarse one where weights have 16 bits
and a finer move would be rounded away."""

NOISES = 16
"""Directions z per unit; each costs two losses. A score has a relative error of 1/√(2 · NOISES)."""

HEADROOM = 0.1
"""The sparsest unit is this much above the target, as theirs is (0.6 at 0.5)."""


def losses_read(n_units: int) -> int:
    """Variants of the model whose losses the scores are made of."""
    return 2 * NOISES * n_units


def zeroth_order_scores(judged: JudgedModel, units: Units, seed: int) -> tuple[Vector, Spent]:
    """Score of each unit, ``(n_units,)``, and what reading the losses cost.

    Args:
        judged: The model, and the texts its losses are read on.
        units: What has a sparsity of its own.
        seed: Of the directions in which weights are moved.
    """
    stack = judged.stack
    maps = [linear_maps(stack, layer) for layer in range(stack.n_players)]
    width = 2 * NOISES

    def moved(layer: int, choice: int) -> Mapping[str, Tensor]:
        """Choice 1 + unit · 2 · NOISES + 2 · noise + (0 plus, 1 minus)."""
        unit, draw = divmod(choice - 1, width)
        names = units.names[layer]
        mine = [one for one in maps[layer] if not names or one.block == names[unit]]
        # Both signs of a pair move along the same z, so their difference is a slope.
        noise = np.random.SeedSequence([seed, layer, unit, draw // 2]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(noise))
        return _moved(mine, generator, 1.0 if draw % 2 == 0 else -1.0)

    n_layers, per_layer = stack.n_players, units.per_layer
    # Each candidate moves one unit along one z; every other layer is as it is.
    choices = np.full((n_layers, per_layer * width, n_layers), AS_IT_IS, dtype=np.intp)
    for layer in range(n_layers):
        choices[layer, :, layer] = 1 + np.arange(per_layer * width)
    game = ChoiceGame(judged, moved)
    seen = game.observe(choices.reshape(-1, n_layers))
    losses = read(seen, "nll", text_config(judged.model.config).vocab_size)[0].mean(axis=1)
    # In the order of the candidates: by unit, then by z, then plus and minus.
    pairs = losses.reshape(len(units.weights), NOISES, 2)
    sizes = np.array(
        [
            _norm([one for one in maps[layer] if not units.names[layer] or one.block == name])
            for layer in range(n_layers)
            for name in units.names[layer] or ("",)
        ]
    )
    step = _step(maps[0]) * sizes / np.sqrt(units.weights)
    # Central differences estimate zᵀ∇L; for standard normal z the mean of their squares is ‖∇L‖².
    slopes = (pairs[..., 0] - pairs[..., 1]) / (2 * step[:, None])
    return sizes * np.sqrt((slopes**2).mean(axis=1)), game.spent


def ecoflap(scores: Vector, weights: Vector, target: float, *, bounds: Bounds) -> Vector:
    """Sparsity of each unit from its score, ``(n_units,)``.

    Args:
        scores: From `zeroth_order_scores`.
        weights: Prunable weights of each unit, ``(n_units,)``.
        target: Share of all weights that become zero.
        bounds: The least and the most sparsity of a unit.
    """
    most = max(target, min(bounds.most, target + HEADROOM))
    return in_proportion(scores, weights, target, bounds=Bounds(bounds.least, most))


def _step(maps: Sequence[LinearMap]) -> float:
    return STEP if maps[0].whole.dtype.itemsize > 2 else COARSE_STEP


def _norm(maps: list[LinearMap]) -> float:
    return float(sum(one.weight.double().square().sum() for one in maps) ** 0.5)


def _moved(maps: list[LinearMap], generator: torch.Generator, sign: float) -> dict[str, Tensor]:
    step = _step(maps) * _norm(maps) / sum(one.n_weights for one in maps) ** 0.5
    tensors: dict[str, Tensor] = {}
    for one in maps:
        # Experts of one fused parameter are moved in one copy of it.
        whole = tensors.setdefault(one.parameter, one.whole.clone())
        noise = torch.randn(one.weight.shape, generator=generator)
        one.within(whole).add_(noise.to(whole), alpha=sign * step)
    return tensors
