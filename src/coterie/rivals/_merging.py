"""Layers that are sums of others, and the two ways in which LaCo makes them (arXiv:2402.11187)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Matrix


@dataclass(frozen=True, eq=False)
class Merged:
    """Layers as sums of the full model's.

    Attributes:
        matrices: ``(n_left, n_layers)``: the matrices of each layer left are Σ matrices[·, j] θ_j.
        vectors: The same sums for its norms and biases.
        places: The layer each of them was.
    """

    matrices: Matrix
    vectors: Matrix
    places: tuple[int, ...]

    @classmethod
    def none(cls, n_layers: int) -> "Merged":
        """Every layer its own."""
        unit = np.eye(n_layers)
        return cls(unit, unit, tuple(range(n_layers)))

    def without(self, at: int, taken: int, matrices: Matrix, vectors: Matrix) -> "Merged":
        """These sums, less the rows of the ``taken`` layers after number ``at``.

        Args:
            at: The layer that took the others in, by its number among those left.
            taken: How many layers it took in.
            matrices: ``(n_left, n_layers)``, before the rows are dropped.
            vectors: The same for norms and biases.
        """
        gone = range(at + 1, at + 1 + taken)
        places = tuple(place for i, place in enumerate(self.places) if i not in gone)
        return Merged(np.delete(matrices, gone, 0), np.delete(vectors, gone, 0), places)

    def changed(self) -> list[tuple[int, int]]:
        """The layers that are no longer their own: number among those left, and place."""
        # Only these are summed and written anew: the bytes of all other layers are copied.
        unit = np.eye(self.matrices.shape[1])[list(self.places)]
        same = (self.matrices == unit).all(axis=1) & (self.vectors == unit).all(axis=1)
        return [(i, self.places[i]) for i in np.flatnonzero(~same).tolist()]

    def row(self, number: int, ndim: int) -> np.ndarray:
        """How a tensor of so many dimensions is summed, ``(n_layers,)``."""
        return (self.vectors if ndim < 2 else self.matrices)[number]


Merge = Callable[[Merged, int, int], Merged]
"""Layer number ``at`` takes in the ``taken`` layers after it."""


def summed(merged: Merged, at: int, taken: int) -> Merged:
    """θ_l ← θ_l + Σ_k (θ_{l+k} − θ_l), as published.

    Args:
        merged: The layers so far.
        at: The layer that takes others in, by its number among those left.
        taken: How many of the layers after it are taken in.
    """
    after = slice(at + 1, at + 1 + taken)
    sums = []
    for old in (merged.matrices, merged.vectors):
        rows = old.copy()
        # old[after] - old[at]: the differences of the published sum, each from the layer at hand.
        rows[at] += (old[after] - old[at]).sum(axis=0)
        sums.append(rows)
    return merged.without(at, taken, *sums)


def last(merged: Merged, at: int, taken: int) -> Merged:
    """θ_l ← θ_{l+K} for the matrices alone: what the released code comes to.

    Args:
        merged: The layers so far.
        at: The layer that takes others in, by its number among those left.
        taken: How many of the layers after it are taken in.
    """
    # Norms and biases stay those of layer l: the released code changes matrices alone.
    rows = merged.matrices.copy()
    rows[at] = rows[at + taken]
    return merged.without(at, taken, rows, merged.vectors)
