"""EntroDrop: layers that add least entropy to the state go first (arXiv:2504.03794).

The entropy of a state is that of its coordinates, each sorted into buckets of equal width between
the smallest and the largest value it takes on the texts, and added up. With depth it first falls,
then rises. Layers of the first stage stay; of the second, those go whose entropy increase
H(out) − H(in) is smallest. The first stage ends where the entropy is lowest.
"""

import numpy as np
import torch
from torch import Tensor

from coterie.game.coalitions import Indices, Vector
from coterie.rivals._ranking import lowest_first
from coterie.rivals._states import states_of
from coterie.rivals.interface import Chosen, Meter, Task

BUCKETS = 20


def choose(task: Task, meter: Meter) -> Chosen:
    """Remove the layers of the second stage with the smallest entropy increase."""
    entropies = state_entropies(task, meter)
    # The stage in which entropy falls ends at its minimum; those layers stay.
    first = np.arange(int(entropies.argmin()), dtype=np.intp)
    kept: Indices = np.union1d(task.locked, first).astype(np.intp)
    return lowest_first(task, meter, np.diff(entropies), kept)


def state_entropies(task: Task, meter: Meter) -> Vector:
    """Entropy in nats of the states before each layer and after the last, ``(n_players + 1,)``.

    The texts are run twice, for the range of the coordinates and for their histogram, so that no
    more than one batch of states is held.
    """
    lows: list[Tensor] = []
    highs: list[Tensor] = []
    for states in states_of(task, meter):
        least = [state.flatten(0, 1).amin(dim=0) for state in states]
        most = [state.flatten(0, 1).amax(dim=0) for state in states]
        lows = [torch.minimum(a, b) for a, b in zip(lows or least, least, strict=True)]
        highs = [torch.maximum(a, b) for a, b in zip(highs or most, most, strict=True)]
    counts = [low.new_zeros(len(low), BUCKETS) for low in lows]
    for states in states_of(task, meter):
        for state, count, low, high in zip(states, counts, lows, highs, strict=True):
            count += bucket_counts(state.flatten(0, 1), low, high)
    return np.array([entropy(count) for count in counts])


def bucket_counts(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How many of the values ``(n, width)`` fall in each bucket: ``(width, BUCKETS)``.

    Args:
        values: States, one a row, ``(n, width)``.
        low: Smallest value of each coordinate, ``(width,)``.
        high: Largest value, ``(width,)``.
    """
    # A coordinate that never changes has width 0: all of it falls in the first bucket.
    width = (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    buckets = ((values - low) / width * BUCKETS).long().clamp(0, BUCKETS - 1)
    counts = values.new_zeros(values.shape[1], BUCKETS)
    return counts.scatter_add_(1, buckets.T, torch.ones_like(values.T))


def entropy(counts: Tensor) -> float:
    """The sum over coordinates of the entropy of their buckets, nats."""
    shares = counts.double() / counts.double().sum(dim=1, keepdim=True)
    return -torch.special.xlogy(shares, shares).sum().item()
