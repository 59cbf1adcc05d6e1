"""Wanda (Sun et al. 2023, arXiv:2306.11695): a weight counts as much as what it lets through.

Score (their Eq. 1): S_ij = |W_ij| · ‖X_j‖₂, compared within each row, so that every output loses
the same share. The weights that stay are not changed.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coterie.sparsity.levels import Level, Need, Pruned, Statistics

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Wanda:
    """A map no calibration input reached is scored as if all its inputs were alike."""

    name: str = field(default="wanda", init=False)
    title: str = field(default="weights times input norms", init=False)
    paper: str | None = field(default="2306.11695", init=False)
    needs: Need = field(default="norms", init=False)

    def prune(self, weight: "Tensor", statistics: Statistics, level: Level) -> Pruned:
        """Zero the lowest scores of every row; the others stay bit by bit.

        Args:
            weight: ``(out, in)``; left alone.
            statistics: The mean squares of the inputs.
            level: How sparse every row becomes.
        """
        from coterie.sparsity.masks import per_row

        scores = weight.abs().float()
        if statistics.rows:
            assert statistics.squares is not None
            # Root mean squares stand for the norms: a common factor changes no order in a row.
            scores = scores * statistics.squares.sqrt()
        return Pruned(weight.masked_fill(per_row(scores, level), 0))
