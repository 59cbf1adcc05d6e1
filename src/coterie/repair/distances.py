"""How far the states of the full model lie apart: what a repair of a gap would have to give back.

For layers a to b − 1, with s_a the state before layer a,

    d(a, b) = mean over tokens of ‖s_b − s_a‖² / ‖s_b‖²,

and a cut is the likelier to be mended the lower the sum of d over its gaps. It costs one pass of
the full model: of 169 cuts of SmolLM2 by eight layers, those better than the median had a rank
correlation of 0.82 between this sum and their loss once repaired (docs/log.md).
"""

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from coterie.game.coalitions import Coalitions, Matrix

AT_MOST = 4096
"""Tokens that distances are taken over."""

_Kept = list[tuple[float, tuple[int, ...]]]
"""Sums of distances, and the layers that go, best first."""


@torch.no_grad()
def gap_distances(before: Sequence[Tensor]) -> Matrix:
    """The distances d(a, b), ``(n_layers + 1, n_layers + 1)``; zero where b ≤ a.

    Args:
        before: The states before each layer and after the last, ``(n_sequences, length, width)``.
    """
    rows = max(1, AT_MOST // before[0].shape[1])
    states = [state[:rows].float().flatten(0, 1) for state in before]
    sizes = [state.square().sum(dim=1).clamp_min(1e-12) for state in states]
    found = np.zeros((len(states), len(states)))
    for a, b in zip(*np.triu_indices(len(states), 1), strict=True):
        apart = (states[b] - states[a]).square().sum(dim=1)
        found[a, b] = float((apart / sizes[b]).mean())
    return found


def likely_cuts(distances: Matrix, gone: int, most: int, locked: Sequence[int] = ()) -> Coalitions:
    """The cuts with the lowest sums of distances over their gaps, ``(n, n_layers)``, best first.

    Found exactly, gap by gap from the first layer to the last; the first layer stays, for nothing
    before it could be refitted.

    Args:
        distances: Of `gap_distances`.
        gone: Layers that go.
        most: How many cuts at most.
        locked: Layers that stay.
    """
    ways = _Ways(len(distances) - 1, gone)
    stays = {0, *locked}
    for layer in range(ways.n_layers):
        for before in range(min(layer, gone) + 1):
            best = heapq.nsmallest(most, ways.taken(layer, before))
            ways.go_on(layer + 1, before, best)
            for end in range(layer + 1, min(ways.n_layers, layer + gone - before) + 1):
                if not best or end - 1 in stays:
                    break
                apart, players = float(distances[layer, end]), tuple(range(layer, end))
                more = [(sum_ + apart, went + players) for sum_, went in best]
                # What follows a gap stays, or the gap would be a longer one.
                ways.go_on(end + 1, before + end - layer, more)
    found = np.ones((min(most, len(ways.ended)), ways.n_layers), dtype=bool)
    for row, (_, went) in zip(found, heapq.nsmallest(most, ways.ended), strict=True):
        row[list(went)] = False
    return found


class _Ways:
    """The ways to every layer that is free to go or stay, by the layers gone before it."""

    def __init__(self, n_layers: int, gone: int) -> None:
        self.n_layers, self._gone = n_layers, gone
        self._there: dict[tuple[int, int], _Kept] = {(0, 0): [(0.0, ())]}
        self.ended: _Kept = []

    def taken(self, layer: int, before: int) -> _Kept:
        """The ways to a layer, which are not asked for again."""
        return self._there.pop((layer, before), [])

    def go_on(self, layer: int, before: int, ways: _Kept) -> None:
        """Add ways to a layer; those past the last one are whole cuts if enough layers went."""
        if layer < self.n_layers:
            self._there.setdefault((layer, before), []).extend(ways)
        elif before == self._gone:
            self.ended.extend(ways)
