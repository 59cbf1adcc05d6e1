"""Wanda (Sun et al. 2023, arXiv:2306.11695): a weight counts as much as what it lets through.

Score (their Eq. 1): S_ij = |W_ij| · ‖X_j‖₂, compared within each row, so that every output loses
the same share. The weights that stay are not changed.
"""

from dataclasses import dataclass, field

from torch import Tensor

from coterie.sparsity.levels import Level, Need, Pruned, Statistics
from coterie.sparsity.masks import per_row


@dataclass(frozen=True)
class Wanda:
    """A map no calibration input reached is scored as if all its inputs were alike."""

    name: str = field(default="wanda", init=False)
    needs: Need = field(default="norms", init=False)

    def prune(self, weight: Tensor, statistics: Statistics, level: Level) -> Pruned:
        """Zero the lowest scores of every row; the others stay bit by bit."""
        scores = weight.abs().float()
        if statistics.rows:
            assert statistics.squares is not None
            scores = scores * statistics.squares.sqrt()
        return Pruned(weight.masked_fill(per_row(scores, level), 0))
