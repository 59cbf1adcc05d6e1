"""Weights that a repair has changed in a model, to be written, taken back, or put in again."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.errors import RepairError

NewWeights = dict[str, Tensor]
"""Changed parameters by their names in the full model; shapes and dtypes are what they were."""


class Changes:
    """The changed weights of one model: those there were are kept until they are taken back."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._before: NewWeights = {}

    def put(self, name: str, value: Tensor) -> None:
        """Make `value` the parameter of this name, in the dtype and on the device that it has.

        Raises:
            RepairError: The value is no number in that dtype.
        """
        parameter = self._model.get_parameter(name)
        new = value.to(parameter.data, copy=True).contiguous()
        if not bool(new.isfinite().all()):
            raise RepairError(
                f"the repaired {name} is not finite in {parameter.dtype}: load the model in"
                " float32 (--dtype float32)"
            )
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


@torch.no_grad()
def shared_layers(stack_layers: tuple[torch.nn.Module, ...]) -> bool:
    """Whether a parameter belongs to several layers, so that none can be changed alone."""
    seen: set[int] = set()
    for layer in stack_layers:
        own = {id(parameter) for parameter in layer.parameters()}
        if own & seen:
            return True
        seen |= own
    return False
