"""The run of layers between whose ends the state turns least (Gromov et al., arXiv:2403.17887).

The angular distance of two states is arccos(cos) / π, at the last token of each text.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from coterie.rivals._ranking import best_windows
from coterie.rivals._states import states_of
from coterie.rivals.interface import Chosen, Meter, Task


def choose(task: Task, meter: Meter) -> Chosen:
    """Remove the contiguous run with the smallest mean angular distance."""
    # Only last tokens are kept, in float64: near 0 an angle is a root of what a cosine loses.
    ends = [[s[:, -1].double() for s in states] for states in states_of(task, meter)]
    last = [torch.cat(parts) for parts in zip(*ends, strict=True)]
    return best_windows(task, meter, lambda at, n: angular_distance(last[at], last[at + n]))


def angular_distance(one: Tensor, other: Tensor) -> float:
    """Mean angle between the rows of two tables ``(n, width)``, as a share of a half turn."""
    cosines = cosine_similarity(one, other, dim=-1).clamp(-1, 1)
    return cosines.arccos().mean().item() / math.pi
