"""Magnitude: the smallest weights of a map go. The plainest rule, which needs no text."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coterie.sparsity.levels import Level, Need, Pruned, Statistics

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Magnitude:
    """Compares |W_ij| across the whole map; inside each group where the level is a pattern."""

    name: str = field(default="magnitude", init=False)
    title: str = field(default="smallest weights", init=False)
    paper: str | None = field(default=None, init=False)
    needs: Need = field(default="nothing", init=False)

    def prune(self, weight: "Tensor", statistics: Statistics, level: Level) -> Pruned:
        """Zero the smallest; the others stay bit by bit.

        Args:
            weight: ``(out, in)``; left alone.
            statistics: Not looked at.
            level: How sparse the map becomes.
        """
        # Imported here, so that the table of pruners loads without torch.
        from coterie.sparsity.masks import per_matrix

        return Pruned(weight.masked_fill(per_matrix(weight.abs().float(), level), 0))
