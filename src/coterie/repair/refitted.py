"""What is told of a refit, and sums that no refit can be made of."""

from dataclasses import dataclass

import torch

from coterie.errors import RepairError
from coterie.repair.least_squares import HELD_OUT, Sums


@dataclass(frozen=True)
class Refitted:
    """One refit that was made, or that no ridge made any better.

    Attributes:
        layer: The layer, as the full model counts it.
        maps: The maps, as the layer calls them.
        ridge: What pulled towards no change; None where nothing was changed.
        explained: Share of the weighted residual that went, on texts it was not fitted on.
        tokens: Tokens it was fitted on.
    """

    layer: int
    maps: tuple[str, ...]
    ridge: float | None
    explained: float
    tokens: int


def check_sums(fitted: Sums, held: Sums, where: str, dtype: torch.dtype) -> None:
    """Refuse sums over too few tokens, or that are no numbers.

    Args:
        fitted: Of the texts to fit on.
        held: Of the texts that choose the ridge.
        where: The layer and its maps, for the message.
        dtype: What the model computes in.

    Raises:
        RepairError: Says how many tokens are needed, or in which dtype it would work.
    """
    columns = 0 if fitted.gram is None else len(fitted.gram)
    if fitted.tokens < columns or not held.tokens:
        least = -(-columns * HELD_OUT // (HELD_OUT - 1))
        raise RepairError(
            f"{fitted.tokens + held.tokens} tokens are too few to refit the {columns} columns of"
            f" {where}: give {least} or more, in {HELD_OUT} texts or more, or choose a repair that"
            " fits fewer (map, scalar)"
        )
    if not fitted.finite or not held.finite:
        raise RepairError(
            f"what enters {where} is not finite in {dtype}: load the model in float32"
            " (--dtype float32)"
        )
