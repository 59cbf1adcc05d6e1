"""Uniform: every layer equally sparse, the baseline for the other rules; it runs no model."""

import numpy as np

from coterie.verbs.sparsify.rules._interface import Allocation, RuleTask


def allocate(task: RuleTask) -> Allocation:
    """The target everywhere."""
    return Allocation(np.full(len(task.units.weights), task.target), task.everyone)


def cost(task: RuleTask) -> None:
    """Nothing."""
