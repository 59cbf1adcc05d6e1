"""Which learning rate to take: a few steps at each of several, on the same batches."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from coterie.healing.origin import HealError

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Rates that are tried, as multiples of the usual one."""

STEPS = 16
"""Steps at each; the last quarter of them counts."""

Attempt = Callable[[float, int], list[float]]
"""From a rate and a number of steps to the loss of every step, from the same beginning."""


@dataclass(frozen=True)
class Sweep:
    """What was tried.

    Attributes:
        rate: The one with the lowest loss.
        tried: Loss at the end of each, nats per token; infinite where it was no number any more.
    """

    rate: float
    tried: dict[float, float]


def sweep_rates(trained: Mapping[str, nn.Parameter], usual: float, attempt: Attempt) -> Sweep:
    """Try several rates from the same beginning, to which the weights return.

    Args:
        trained: What learns, by name.
        usual: The rate about which the others lie.
        attempt: Learns for a few steps.

    Raises:
        HealError: no rate gives a loss that is a number.
    """
    before = {name: one.detach().clone() for name, one in trained.items()}
    tried: dict[float, float] = {}
    for factor in FACTORS:
        try:
            losses = attempt(factor * usual, STEPS)
            tried[factor * usual] = float(np.mean(losses[-max(1, STEPS // 4) :]))
        except HealError:
            tried[factor * usual] = math.inf
        with torch.no_grad():
            for name, one in trained.items():
                one.copy_(before[name])
                one.grad = None
    best = min(tried, key=lambda rate: tried[rate])
    if not math.isfinite(tried[best]):
        raise HealError(
            f"no learning rate from {min(tried):.2g} to {max(tried):.2g} gives a loss that is a"
            " number: give a smaller --learning-rate, without --sweep"
        )
    return Sweep(best, tried)
