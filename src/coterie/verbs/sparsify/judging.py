"""Judge allocations: what the model loses on calibration texts when its layers are pruned so."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coterie.game.coalitions import Vector
from coterie.game.utilities import read
from coterie.sparsity.allocation import to_pattern
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.search import Levels
from coterie.sparsity.variant_cache import PassingVariants, VariantCache, Variants
from coterie.sparsity.variant_game import ChoiceGame
from coterie.verbs.sparsify.texts import judged_on

if TYPE_CHECKING:
    from coterie.verbs.sparsify.rules._interface import RuleTask


class Judging:
    """Judges allocations on calibration texts, with layers pruned one by one.

    Args:
        task: The model, its units and texts.
        folder: An empty folder for what does not fit in memory. None where each variant is used
            once: then no variant is kept, and statistics are those of one layer at a time.

    Attributes:
        variants: The pruned layers.
        game: Observes them on the texts that judge.
        candidates: Allocations judged so far.
    """

    def __init__(self, task: "RuleTask", folder: Path | None) -> None:
        self.task, self.units = task, task.units
        self.candidates = 0
        self._vocabulary = task.workspace.calibration.engine.vocabulary
        pruning = task.pruning(find_pruner(task.request.pruner))
        self.variants: Variants
        # A search uses a variant many times; a rule with one round uses each once.
        if folder is None:
            self.variants = PassingVariants(pruning, self.units)
        else:
            self.variants = VariantCache(pruning, self.units, folder=folder)
        judged = task.judged(judged_on(task.workspace.prepared))
        self.game = ChoiceGame(judged, self.variants, arrived=self.variants.arrived)

    def __call__(self, levels: Levels, share: float = 1.0) -> Vector:
        """Mean KL to the full model, nats per token, on the first share of the texts.

        It orders allocations as held-out loss does with less noise than the loss itself.
        """
        # The first ones each time, so that what is compared was judged on the same texts.
        n_sequences = max(1, round(share * len(self.game.tokens)))
        seen = self.game.observe(self.units.choices(levels), np.arange(n_sequences))
        self.candidates += len(levels)
        return read(seen, "kl", self._vocabulary)[0].mean(axis=1)

    def levels(self, sparsity: Vector) -> Levels:
        """Sparsities ``(n, n_units)`` on the grid, totals kept as nearly as it allows."""
        steps, weights, bounds = self.units.steps, self.units.weights, self.task.bounds
        return np.stack([steps - to_pattern(row, weights, steps, bounds) for row in sparsity])
