"""How far two computations of the same thing may differ by rounding alone: written once, by dtype.

Sixteen-bit numbers round visibly, so whatever is compared with something else has one tolerance for
them and another for float32. Every numerical check asks here.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tolerance:
    """What rounding may do in one dtype.

    Attributes:
        entries: Largest difference of two tensors, as a share of their largest entry.
        states: Norm of the difference of two states, as a share of theirs, mean over tokens.
        reordered_nats: Difference of two losses whose sums were taken in another order, nats per
            token.
        reloaded_nats: Difference of a loss in memory and of the same weights read back.
        addition: Difference of a sum of two numbers from what a model made of them, as a share of
            their magnitudes.
    """

    entries: float
    states: float
    reordered_nats: float
    reloaded_nats: float
    addition: float


_FINE = Tolerance(1e-5, 1e-4, 1e-4, 1e-5, 1e-3)
_DOUBLE = Tolerance(1e-5, 1e-4, 1e-4, 1e-8, 1e-3)
_COARSE = Tolerance(2e-2, 0.05, 1e-2, 0.02, 2 * torch.finfo(torch.bfloat16).eps)

# float64 and float32 by name: every other dtype is coarse.
_BY_DTYPE = {torch.float64: _DOUBLE, torch.float32: _FINE}


def tolerance(dtype: torch.dtype) -> Tolerance:
    """What rounding may do in a dtype; everything below float32 counts as 16 bits.

    >>> tolerance(torch.bfloat16).reloaded_nats
    0.02
    """
    return _BY_DTYPE.get(dtype, _COARSE)
