"""Weights that a repair has changed in a model, to be written, taken back, or put in again."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from coterie.errors import RepairError
from coterie.models.loaded.stack import Stack

NewWeights = dict[str, Tensor]
"""Changed parameters by their names in the full model; shapes and dtypes are what they were."""


class Changes(Protocol):
    """The changed weights of one model: those there were come back when they are taken."""

    def put(self, name: str, value: Tensor) -> None:
        """Make `value` the parameter of this name, in the dtype that it has.

        Raises:
            RepairError: The value is no number in that dtype.
        """
        ...

    def __bool__(self) -> bool:
        """Whether anything was changed."""
        ...

    def taken_back(self) -> NewWeights:
        """Put the old weights in again and hand over the new ones."""
        ...


class ChangesInMemory:
    """The changed weights of a model in memory: those there were are kept beside them.

    Args:
        model: Whose weights change.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._before: NewWeights = {}

    def put(self, name: str, value: Tensor) -> None:
        """Make `value` the parameter of this name, in the dtype and on the device that it has.

        Raises:
            RepairError: The value is no number in that dtype.
        """
        parameter = self._model.get_parameter(name)
        new = checked_finite(name, value.to(parameter.data, copy=True)).contiguous()
        self._before.setdefault(name, parameter.data)
        parameter.data = new

    def __bool__(self) -> bool:
        return bool(self._before)

    def taken_back(self) -> NewWeights:
        """Put the old weights in again and hand over the new ones."""
        new = {name: self._model.get_parameter(name).data for name in self._before}
        for name, old in self._before.items():
            self._model.get_parameter(name).data = old
        self._before = {}
        return new


def checked_finite(name: str, new: Tensor) -> Tensor:
    """A new weight, refused where it is no number in the dtype that it has come to.

    Raises:
        RepairError: It is not finite.
    """
    if not bool(new.isfinite().all()):
        raise RepairError(
            f"the repaired {name} is not finite in {new.dtype}: load the model in float32 (--dtype"
            " float32)"
        )
    return new


@contextmanager
def applied(model: PreTrainedModel, weights: NewWeights) -> Iterator[None]:
    """Inside, the model has these weights instead of its own; nothing is copied."""
    before = {name: model.get_parameter(name).data for name in weights}
    try:
        for name, new in weights.items():
            model.get_parameter(name).data = new
        yield
    finally:
        for name, old in before.items():
            model.get_parameter(name).data = old


def check_unshared(model: PreTrainedModel, stack: Stack) -> None:
    """Refuse a model in which a parameter belongs to several layers: none can be changed alone.

    Raises:
        RepairError: It is one.
    """
    seen: set[int] = set()
    for layer in stack.layers:
        own = {id(parameter) for parameter in layer.parameters()}
        if own & seen:
            raise RepairError(
                f"the layers of {type(model).__name__} share weights, so none can be refitted"
                " alone: leave it as it was cut (--repair none)"
            )
        seen |= own


class RememberedRefits:
    """Weights that refits have made, as many as may be kept; those asked longest ago go first.

    Args:
        most_bytes: What they may take.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._known: OrderedDict[Hashable, NewWeights] = OrderedDict()

    def find(self, place: Hashable) -> NewWeights | None:
        """What was made at this place; None where nothing is kept."""
        if place in self._known:
            self._known.move_to_end(place)
        return self._known.get(place)

    def keep(self, place: Hashable, weights: NewWeights) -> None:
        """Keep what was made at a place."""
        self._known[place] = weights
        self._bytes += _n_bytes(weights)
        while self._bytes > self._most_bytes:
            _, gone = self._known.popitem(last=False)
            self._bytes -= _n_bytes(gone)


def _n_bytes(weights: NewWeights) -> int:
    return sum(value.numel() * value.element_size() for value in weights.values())
