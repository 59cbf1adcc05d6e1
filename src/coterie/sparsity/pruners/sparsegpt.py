"""SparseGPT (Frantar and Alistarh 2023, arXiv:2301.00774): the weights that stay make up for those
that go.

Columns are worked off from the left. A weight that goes leaves the error e = w / c_jj, with c the
upper Cholesky factor of the inverse Hessian (cᵀ c = H⁻¹), and the columns to its right in its row
take -e c_jk each (their Eq. 2 and 3, Algorithm 1). Which weights go is chosen block by block,
lowest w² / c_jj² first, from weights that are already updated.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.levels import Level, Need, Pattern, Pruned, Statistics, share

if TYPE_CHECKING:
    from torch import Tensor

MOST_DAMPING = 1.0
"""Where raising the damping is given up: as much again as the mean of the diagonal."""


@dataclass(frozen=True)
class SparseGPT:
    """Blockwise optimal brain surgeon with one inverse Hessian for all rows.

    Attributes:
        damping: Share of the Hessian's mean diagonal added to its diagonal; ten times as much, and
            again, where that is not enough for a Cholesky factor. The one used is reported.
        mask_columns: Columns among which, in all rows together, the weights that go are chosen.
        lazy_columns: Columns whose updates of the rest are made in one product. Changes nothing
            but the speed; adjusted so that a block to choose in is never half updated.
    """

    damping: float = 0.01
    mask_columns: int = 128
    lazy_columns: int = 128
    name: str = field(default="sparsegpt", init=False)
    title: str = field(default="optimal brain surgeon, by columns", init=False)
    paper: str | None = field(default="2301.00774", init=False)
    needs: Need = field(default="hessian", init=False)

    def prune(self, weight: "Tensor", statistics: Statistics, level: Level) -> Pruned:
        """Zero weights block by block and let the columns to the right make up for them.

        Args:
            weight: ``(out, in)``; left alone.
            statistics: The Hessian of the inputs.
            level: How sparse the map becomes.

        Raises:
            SparsityError: The Hessian has no inverse even with `MOST_DAMPING`.
        """
        import torch

        if share(level) == 0:
            return Pruned(weight)
        hessian = statistics.hessian
        if hessian is None or not hessian.any():  # nothing to make up for: plain magnitude
            wide = torch.promote_types(weight.dtype, torch.float32)
            hessian = torch.eye(weight.shape[1], dtype=wide, device=weight.device)
        factor, damping = self._factor(hessian)
        work = weight.to(factor.dtype, copy=True)
        self._sweep(work, factor, level)
        return Pruned(work.to(weight.dtype), damping)

    def _factor(self, hessian: "Tensor") -> "tuple[Tensor, float]":
        """Upper triangular c with cᵀ c = (H + damping)⁻¹, and the damping it took."""
        import torch

        alive = hessian.diagonal() > 0
        mean = hessian.diagonal().mean().clamp_min(torch.finfo(hessian.dtype).tiny)
        damping = self.damping
        while damping <= MOST_DAMPING * 1.001:
            damped = hessian.clone()
            damped.diagonal().add_(damping * mean)
            damped.diagonal()[~alive] = mean  # an input that is always zero: no weight matters
            lower, failed = torch.linalg.cholesky_ex(damped)
            if not failed:
                inverse = torch.cholesky_inverse(lower)
                upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
                if not failed and bool(upper.isfinite().all()):
                    upper.diagonal()[~alive] = torch.inf  # of all scores theirs is the lowest: 0
                    return upper, damping
            damping *= 10
        raise SparsityError(
            f"the Hessian of {len(hessian)} inputs has no inverse even with a damping of"
            f" {damping / 10:g} of its mean diagonal: calibrate on more text, or prune by wanda"
        )

    def _sweep(self, work: "Tensor", factor: "Tensor", level: Level) -> None:
        """Work off the columns of ``work`` ``(out, in)`` in place."""
        import torch

        from coterie.sparsity.masks import lowest, lowest_in_groups

        width = work.shape[1]
        mask = torch.zeros_like(work, dtype=torch.bool)
        step = level.m if isinstance(level, Pattern) else self.mask_columns
        chosen = _choices(step, share(level), work)
        lazy = self._lazy(step)
        for start in range(0, width, lazy):
            stop = min(start + lazy, width)
            errors = work.new_zeros(len(work), stop - start)
            for column in range(start, stop):
                if column in chosen:
                    # The columns of a choice already carry the updates from the columns to their
                    # left.
                    upto, count = chosen[column]
                    scores = (work[:, column:upto] / factor.diagonal()[column:upto]) ** 2
                    mask[:, column:upto] = (
                        lowest_in_groups(scores, level)
                        if isinstance(level, Pattern)
                        else lowest(scores, count)
                    )
                gone = mask[:, column]
                error = torch.where(gone, work[:, column], 0) / factor[column, column]
                errors[:, column - start] = error
                work[:, column : column + 1].masked_fill_(gone[:, None], 0)
                work[:, column + 1 : stop] -= error[:, None] * factor[column, column + 1 : stop]
            # Columns beyond the lazy block get all its updates in one product (Algorithm 1).
            work[:, stop:] -= errors @ factor[start:stop, stop:]

    def _lazy(self, step: int) -> int:
        """Columns updated together: where a choice falls, its columns have to be up to date."""
        if step % self.lazy_columns == 0:
            return self.lazy_columns
        return max(step, self.lazy_columns // step * step)


def _choices(step: int, sparsity: float, work: "Tensor") -> dict[int, tuple[int, int]]:
    """Where a mask is chosen: first column to the column after the last, and how many go."""
    from coterie.sparsity.masks import cumulative

    width = work.shape[1]
    stops = [min(start + step, width) for start in range(0, width, step)]
    totals = cumulative(sparsity, work.numel(), stops)
    return {
        start: (stop, total - before)
        for start, stop, total, before in zip(
            [0, *stops], stops, totals, [0, *totals], strict=False
        )
    }
