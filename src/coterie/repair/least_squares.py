"""Least squares from sums: texts go by in batches, and only what they add up to is held.

    min over Δ of  Σ_t ω_t ‖x_t Δ − r_t‖² + λ d ‖Δ‖²

with x_t the inputs of a linear map at token t, r_t what its output should change by, ω_t the weight
of the token and d the mean diagonal of the Gram matrix: λ pulls towards no change. λ is the one
whose Δ explains most on texts that were not fitted on; Δ is then fitted on all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The λ to choose from; nothing is changed where none of them helps."""

USUAL = 1e-1
"""The λ that is tried first."""

HELD_OUT = 4
"""One text in so many says which λ is best."""


@dataclass(frozen=True, eq=False)
class Fit:
    """The best change of a linear map.

    Attributes:
        change: Δ, ``(columns, width)``, float64.
        ridge: The λ it was fitted with.
        explained: Share of Σ ω ‖r‖² that Δ explains on texts it was not fitted on, at this λ.
        tokens: Tokens it was fitted on.
    """

    change: Tensor
    ridge: float
    explained: float
    tokens: int


class Sums:
    """What least squares must know of some tokens.

    Attributes:
        gram: Σ ω xᵀx, ``(columns, columns)``, float64.
        crossed: Σ ω xᵀr, ``(columns, width)``, float64.
        power: Σ ω ‖r‖².
        tokens: How many tokens have gone by.
    """

    def __init__(self) -> None:
        self.gram: Tensor | None = None
        self.crossed: Tensor | None = None
        self.power = 0.0
        self.tokens = 0

    def add(self, inputs: Tensor, wanted: Tensor, weights: Tensor) -> None:
        """Add tokens.

        Args:
            inputs: x, ``(n_tokens, columns)``.
            wanted: r, ``(n_tokens, width)``.
            weights: ω, ``(n_tokens,)``.
        """
        x, r = _wide(inputs), _wide(wanted)
        weighted = x * weights[:, None].to(x.dtype)
        # Products of one batch in the dtype that is fast, sums over batches in float64.
        gram, crossed = _double(weighted.T @ x), _double(weighted.T @ r)
        self.gram = gram if self.gram is None else self.gram.add_(gram)
        self.crossed = crossed if self.crossed is None else self.crossed.add_(crossed)
        self.power += float((weights.to(r.dtype) * r.square().sum(dim=1)).sum().double())
        self.tokens += len(x)

    @property
    def finite(self) -> bool:
        """Whether every sum is a number."""
        parts = [part for part in (self.gram, self.crossed) if part is not None]
        return all(bool(part.isfinite().all()) for part in parts) and self.power < float("inf")

    def solve(self, ridge: float) -> Tensor:
        """Δ at one λ."""
        assert self.gram is not None and self.crossed is not None
        damped = self.gram.clone()
        damped.diagonal().add_(ridge * self.gram.diagonal().mean())
        lower, failed = torch.linalg.cholesky_ex(damped)
        if failed:  # a Gram matrix of too few directions, at a tiny λ
            return torch.linalg.lstsq(damped.cpu(), self.crossed.cpu()).solution.to(damped)
        return torch.cholesky_solve(self.crossed, lower)

    def explains(self, change: Tensor) -> float:
        """Share of Σ ω ‖r‖² that goes when Δ is applied; below zero where it adds to it."""
        assert self.gram is not None and self.crossed is not None
        gain = 2 * (change * self.crossed).sum() - (change * (self.gram @ change)).sum()
        return float(gain) / self.power if self.power > 0 else 0.0

    def with_(self, other: "Sums") -> "Sums":
        """The sums over the tokens of both; this one becomes them, and `other` is used up."""
        assert self.gram is not None and self.crossed is not None
        if other.gram is not None and other.crossed is not None:
            self.gram.add_(other.gram)
            self.crossed.add_(other.crossed)
        self.power += other.power
        self.tokens += other.tokens
        return self


def best_fit(fitted: Sums, held: Sums) -> Fit | None:
    """The Δ of the λ that explains most of `held`; None where no λ explains anything of it.

    Both are used up: the answer is fitted on the two together.
    """
    if not held.tokens or fitted.power == 0.0:
        return None
    place, share = _climbed(lambda at: held.explains(fitted.solve(RIDGES[at])))
    if not share > 0:
        return None
    ridge, everything = RIDGES[place], fitted.with_(held)
    return Fit(everything.solve(ridge), ridge, share, everything.tokens)


def _climbed(share: Callable[[int], float]) -> tuple[int, float]:
    """The place in `RIDGES` with the largest share, uphill from the usual one, and the share.

    What a ridge explains of other texts has one top: too little pull fits noise, too much nothing.
    """
    place = RIDGES.index(USUAL)
    best = share(place)
    for step in (1, -1):
        start = place
        while 0 <= place + step < len(RIDGES) and (found := share(place + step)) > best:
            place, best = place + step, found
        if place != start:
            break
    return place, best


def _wide(part: Tensor) -> Tensor:
    return part if part.dtype == torch.float64 else part.float()


def _double(product: Tensor) -> Tensor:
    # MPS has no float64: the sums are kept where there is.
    return (product.cpu() if product.device.type == "mps" else product).double()
