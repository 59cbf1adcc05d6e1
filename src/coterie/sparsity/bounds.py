"""The least and the most sparsity that a layer may have. Needs no numbers library."""

from dataclasses import dataclass

from coterie.errors import UserError

LEAST, MOST = 0.0, 0.95
"""Default bounds: a layer that is all zeros is better cut."""


class SparsityError(UserError):
    """A sparsity that is out of range, or that the bounds of the layers do not allow."""


@dataclass(frozen=True)
class Bounds:
    """The least and the most sparsity a unit may have."""

    least: float = LEAST
    most: float = MOST

    def check(self, target: float) -> None:
        """Refuse bounds or a target that cannot be met.

        Raises:
            SparsityError: one line with the reachable range.
        """
        if not 0 <= target < 1:
            raise SparsityError(f"sparsity {target:g} must lie in [0, 1): it is the share of zeros")
        if not 0 <= self.least <= self.most <= 1:
            raise SparsityError(
                f"bounds {self.least:g} to {self.most:g} must be ordered, both from 0 to 1"
            )
        # A mean of values within the bounds lies within them too.
        if not self.least <= target <= self.most:
            raise SparsityError(
                f"sparsity {target:g} is out of reach: every layer must stay within {self.least:g}"
                f" to {self.most:g}; widen these bounds (--least, --most)"
            )


FREE = Bounds(0.0, 1.0)
"""Any sparsity at all."""
