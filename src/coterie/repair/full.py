"""The full model's states between layers: held at one place, or at all of them."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from coterie.repair.parts import LayerPiece

Through = Callable[[int, Tensor], Tensor]
"""Applies a layer, as it is now, to the states of all texts."""


class FullStates(Protocol):
    """Where the full model stands, and what it hands on there."""

    layer: int
    """The layer it stands before."""

    def at(self, layer: int) -> Tensor:
        """The states ``(n_sequences, length, width)`` before a layer."""
        ...

    def through(self, parts: Sequence[LayerPiece]) -> list[Tensor]:
        """The states after each part of one layer, before which it is brought first."""
        ...


class PassingStates:
    """The states at one place between layers, which moves on and never back.

    Args:
        way: Runs layers on all texts.
        embedded: What enters the first layer.
    """

    def __init__(self, way: Through, embedded: Tensor) -> None:
        self._way, self.states, self.layer = way, embedded, 0

    def at(self, layer: int) -> Tensor:
        """The states before a layer; none that was passed can be asked for again."""
        if layer < self.layer:
            raise ValueError(f"the full model is at layer {self.layer}, past {layer}")
        while self.layer < layer:
            self.states = self._way(self.layer, self.states)
            self.layer += 1
        return self.states

    def through(self, parts: Sequence[LayerPiece]) -> list[Tensor]:
        """The states after each part of one layer; it stands behind that layer then."""
        found = []
        # Where the first layers are gone, it still stands before them.
        self.at(parts[0].layer)
        for part in parts:
            with part.alone():
                self.states = self._way(part.layer, self.states)
            found.append(self.states)
        self.layer += 1
        return found


class RememberedStates:
    """The states at every place between layers.

    Args:
        way: Runs layers on all texts.
        embedded: What enters the first layer.
        n_layers: How many layers there are.

    Attributes:
        before: The states before each layer, and after the last.
    """

    def __init__(self, way: Through, embedded: Tensor, n_layers: int) -> None:
        self._way, self.layer = way, 0
        self.before = [embedded]
        for layer in range(n_layers):
            self.before.append(way(layer, self.before[-1]))

    def at(self, layer: int) -> Tensor:
        """The states before a layer, any layer."""
        return self.before[layer]

    def through(self, parts: Sequence[LayerPiece]) -> list[Tensor]:
        """The states after each part of one layer."""
        layer = parts[0].layer
        found, states = [], self.before[layer]
        for part in parts[:-1]:
            with part.alone():
                states = self._way(part.layer, states)
            found.append(states)
        return [*found, self.before[layer + 1]]
