"""Magnitude: the smallest weights of a map go. The plainest rule, which needs no text."""

from dataclasses import dataclass, field

from torch import Tensor

from coterie.sparsity.levels import Level, Need, Pruned, Statistics
from coterie.sparsity.masks import per_matrix


@dataclass(frozen=True)
class Magnitude:
    """Compares |W_ij| across the whole map; inside each group where the level is a pattern."""

    name: str = field(default="magnitude", init=False)
    needs: Need = field(default="nothing", init=False)

    def prune(self, weight: Tensor, statistics: Statistics, level: Level) -> Pruned:
        """Zero the smallest; the others stay bit by bit."""
        return Pruned(weight.masked_fill(per_matrix(weight.abs().float(), level), 0))
