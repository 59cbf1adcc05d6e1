"""Share one sparsity out among the layers of an opened model, by the rule that was asked for."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.batches import Batches
from coterie.game.coalitions import Coalition, Vector
from coterie.game.utilities import read
from coterie.models.loaded.stack import Stack, find_stack
from coterie.plain import Json
from coterie.sparsity.allocation import (
    SPREADS,
    Bounds,
    allocate,
    importance_of,
    mean_of,
    steps_within,
    to_pattern,
)
from coterie.sparsity.ecoflap import ecoflap, zeroth_order_scores
from coterie.sparsity.owl import outlier_ratios, owl
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.search import Levels, Space, guided
from coterie.sparsity.units import GONE, Units, find_units
from coterie.sparsity.variant_cache import PassingShelf, VariantCache
from coterie.sparsity.variant_game import ChoiceGame
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.contributions import Measured, measure
from coterie.verbs.sparsify.request import JUDGED_AGAIN, SparsifyRequest
from coterie.verbs.sparsify.texts import judged_on

CUT_SHARE = 0.9
"""Of the budget, that whole layers may take when layers are cut and the rest is sparsified."""


@dataclass(eq=False)
class Allocation:
    """Sparsities of all units, and how they came about.

    Attributes:
        sparsity: ``(n_units,)``; 1 where a layer is cut.
        kept: Layers that stay.
        told: What was tried and what it gave, for the record.
    """

    sparsity: Vector
    kept: Coalition
    measured: Measured | None = None
    told: dict[str, Json] = field(default_factory=dict)


class Judging:
    """Judges allocations on calibration texts, with layers pruned one by one.

    Args:
        tokens: The texts that allocations are judged on.
        folder: An empty folder for what memory has no room for. None where each variant is used
            once: then no variant is kept, and statistics are those of one layer at a time.
        pruning: The texts that the pruner measures on; those that are judged on, if None.
        batches: The model taken apart, where its weights come from files; then without a folder.
        state_memory: Bytes that live states may take; by default half of what is free.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        units: Units,
        tokens: torch.Tensor,
        shape: BatchShape,
        pruner: str,
        vocabulary: int,
        folder: Path | None,
        *,
        pruning: torch.Tensor | None = None,
        batches: Batches | None = None,
        state_memory: int | None = None,
    ) -> None:
        self.units, self.vocabulary = units, vocabulary
        self.candidates = 0
        self.shelf: VariantCache | PassingShelf
        measured, found = tokens if pruning is None else pruning, find_pruner(pruner)
        arrived = None
        if folder is None:
            weights = None if batches is None else batches.layers.weights
            self.shelf = passing = PassingShelf(model, stack, measured, found, units, weights)
            arrived = passing.arrived
        else:
            self.shelf = VariantCache(model, stack, measured, found, units, folder=folder)
        self.game = ChoiceGame(
            model,
            stack,
            tokens,
            shape,
            self.shelf,
            state_memory=state_memory,
            batches=batches,
            arrived=arrived,
        )

    def __call__(self, levels: Levels, share: float = 1.0) -> Vector:
        """Mean KL to the full model, nats per token, on the first share of the texts.

        It orders allocations as held-out loss does with less noise than the loss itself.
        """
        n_sequences = max(1, round(share * len(self.game.tokens)))
        seen = self.game.observe(self.units.choices(levels), np.arange(n_sequences))
        self.candidates += len(levels)
        return read(seen, "kl", self.vocabulary)[0].mean(axis=1)

    def levels(self, sparsity: Vector, bounds: Bounds) -> Levels:
        """Sparsities ``(n, n_units)`` on the grid, totals kept as nearly as it allows."""
        steps, weights = self.units.steps, self.units.weights
        return np.stack([steps - to_pattern(row, weights, steps, bounds) for row in sparsity])


def share_out(workspace: Workspace, request: SparsifyRequest, progress: Progress) -> Allocation:
    """The sparsity of every unit, with the weighted mean that was asked for.

    Raises:
        UserError: the target cannot be met, or nothing tells the layers apart.
    """
    stack = find_stack(workspace.model)
    units = find_units(workspace.model, stack, workspace.stack.players, request.group())
    target, bounds = request.target(), request.bounds()
    everyone = np.ones(stack.n_players, dtype=bool)
    rule = request.allocating()
    if rule == "uniform":
        found = Allocation(np.full(len(units.weights), target), everyone)
    elif rule == "owl":
        tokens = torch.from_numpy(workspace.prepared.measured.tokens)
        weights = None if workspace.batches is None else workspace.batches.layers.weights
        ratios = outlier_ratios(workspace.model, stack, tokens, units, weights)
        found = Allocation(owl(ratios, units.weights, target, bounds=bounds), everyone)
        found.told = {"outlier_ratios": ratios.tolist()}
    elif rule == "ecoflap":
        found = _by_zeroth_order(workspace, stack, units, target, bounds)
    else:
        found = _by_contributions(workspace, request, stack, units, progress)
    if units.is_pattern:
        kept = to_pattern(found.sparsity, units.weights, units.steps, bounds)
        found.sparsity = 1 - kept / units.steps
    return found


def _by_zeroth_order(
    workspace: Workspace, stack: Stack, units: Units, target: float, bounds: Bounds
) -> Allocation:
    tokens = torch.from_numpy(workspace.calibration.texts.tokens)
    shape, seed = workspace.calibration.engine.shape, workspace.request.seed
    memory = workspace.request.state_memory
    scores, spent = zeroth_order_scores(
        workspace.model, stack, tokens, shape, units, seed, state_memory=memory
    )
    found = Allocation(
        ecoflap(scores, units.weights, target, bounds=bounds), np.ones(stack.n_players, dtype=bool)
    )
    found.told = {"scores": scores.tolist(), "layer_tokens_executed": spent.layer_tokens}
    return found


def _by_contributions(
    workspace: Workspace, request: SparsifyRequest, stack: Stack, units: Units, progress: Progress
) -> Allocation:
    measured = measure(workspace, request, progress)
    importance = importance_of(measured.values, units.weights)
    played, prepared = workspace.calibration, workspace.prepared
    again = request.allocation in JUDGED_AGAIN
    with tempfile.TemporaryDirectory() as folder:
        progress.say("judging allocations on the calibration texts")
        began = perf_counter()
        judging = Judging(
            workspace.model,
            stack,
            units,
            torch.from_numpy(judged_on(prepared).tokens),
            played.engine.shape,
            request.pruner,
            played.engine.vocabulary,
            Path(folder) if again else None,
            pruning=torch.from_numpy(prepared.measured.tokens),
            batches=workspace.batches,
            state_memory=prepared.request.state_memory,
        )
        found = choose(judging, importance, measured.values, request)
        found.told |= {
            "candidates": judging.candidates,
            "sequences": len(judging.game.tokens),
            "variants": judging.shelf.made,
            "layer_tokens_executed": judging.game.spent.layer_tokens,
            "seconds": perf_counter() - began,
        }
    found.measured = measured
    return found


def choose(
    judging: Judging, importance: Vector, contributions: Vector, request: SparsifyRequest
) -> Allocation:
    """Choose the spread on calibration, then search or cut beyond it where that was asked."""
    units, target, bounds = judging.units, request.target(), request.bounds()
    spreads = np.stack(
        [allocate(importance, units.weights, target, spread=s, bounds=bounds) for s in SPREADS]
    )
    levels = judging.levels(spreads, bounds)
    losses = judging(levels)
    best = int(losses.argmin())
    everyone = np.ones(len(units.names), dtype=bool)
    found = Allocation(spreads[best], everyone)
    found.told = {
        "spread": SPREADS[best],
        "spreads": {str(s): float(loss) for s, loss in zip(SPREADS, losses, strict=True)},
    }
    if request.allocation == "guided":
        return _searched(judging, levels, found, request)
    if request.allocation == "mixed":
        return _mixed(judging, importance, contributions, found, float(losses[best]), request)
    return found


def _searched(
    judging: Judging, starts: Levels, found: Allocation, request: SparsifyRequest
) -> Allocation:
    units, bounds = judging.units, request.bounds()
    least, most = (np.full(len(units.weights), step) for step in steps_within(bounds, units.steps))
    rng = np.random.default_rng([request.base.seed, 6])
    space = Space(units.weights, least, most)
    if not space.allowed(starts, float(starts[0] @ units.weights)).any():
        found.told |= {"search": f"no steps of 1/{units.steps} lie within the bounds: not searched"}
        return found
    answer = guided(judging, starts, space, rng=rng)
    sparse = answer.levels / units.steps
    # The grid meets the target to within half a step of one unit; one shift meets it exactly.
    found.sparsity = allocate(-sparse, units.weights, request.target(), spread=1.0, bounds=bounds)
    found.told |= {"loss": answer.loss, "history": list(answer.account.history)}
    return found


def _mixed(
    judging: Judging,
    importance: Vector,
    contributions: Vector,
    found: Allocation,
    loss: float,
    request: SparsifyRequest,
) -> Allocation:
    """Cut 1, 2, 3 … of the least contributing layers too, while that helps on calibration."""
    units, target, bounds = judging.units, request.target(), request.bounds()
    weights = units.weights
    spread = float(str(found.told["spread"]))
    free = np.flatnonzero(~np.isnan(contributions))
    order = free[np.argsort(contributions[free], kind="stable")]
    tried: dict[str, Json] = {"0": loss}
    for n_cut in range(1, len(order)):
        gone = order[:n_cut]
        rest = np.setdiff1d(np.arange(len(weights)), gone)
        left = (target * weights.sum() - weights[gone].sum()) / weights[rest].sum()
        if left < max(bounds.least, (1 - CUT_SHARE) * target):
            break
        sparsity = np.ones(len(weights))
        sparsity[rest] = allocate(
            importance[rest], weights[rest], left, spread=spread, bounds=bounds
        )
        levels = judging.levels(sparsity[None], bounds)
        levels[0, gone] = GONE
        tried[str(n_cut)] = float(judging(levels)[0])
        if float(str(tried[str(n_cut)])) < loss:
            loss = float(str(tried[str(n_cut)]))
            found.sparsity, found.kept = sparsity, np.isin(np.arange(len(weights)), rest)
    assert abs(mean_of(found.sparsity, weights) - target) < 1e-6
    found.told |= {"loss_by_layers_cut": tried}
    return found
