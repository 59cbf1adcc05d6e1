"""Take a model apart into an embedding and layers that can be run on any states, in any order.

One forward in which every layer hands on what it is given shows what each layer is given beside
the state: masks, positions, rotary tables. Arguments that carry one row per sequence are found
by two such forwards of different width: an axis that grows with the batch is the batch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten
from transformers import PreTrainedModel

from coterie.engine.memory import is_out_of_memory
from coterie.errors import UserError
from coterie.models.loaded.routing import (
    ArgumentKey,
    Carried,
    Forward,
    carried_leaves,
    input_device,
    patched,
)
from coterie.models.loaded.stack import Stack


class NotReplayable(Exception):
    """The layers of a model cannot be run on their own; the message is the reason."""


@contextmanager
def running_apart(part: str = "a layer") -> Iterator[None]:
    """Turn any error of a part that is run without its model into `NotReplayable`.

    A user's mistake and a lack of memory say nothing about the layer: they are raised as they are,
    and so is a reason that is known already.
    """
    try:
        yield
    except (UserError, NotReplayable):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise NotReplayable(f"{part} run apart from the model fails: {error}") from error


@dataclass(frozen=True)
class BatchAxis:
    """Where an argument carries its sequences: ``axis`` has ``multiple`` entries for each."""

    axis: int
    multiple: int


@dataclass(frozen=True, eq=False)
class LayerInput:
    """Everything a layer is given besides the state, for some sequences.

    Attributes:
        leaves: Flattened arguments; where the state belongs there is None.
        spec: Tree of ``(args, kwargs)``.
        state_at: Position of the state among the leaves.
        axes: The batch axis of each leaf, None where it has none.
    """

    leaves: list[object]
    spec: TreeSpec
    state_at: int
    axes: list[BatchAxis | None]


@dataclass(eq=False)
class Prelude:
    """Everything before the first layer, for some sequences.

    Attributes:
        embedded: States that enter the first layer, ``(n_sequences, length, width)``.
        inputs: What each layer is given beside the state.
    """

    embedded: Tensor
    inputs: list[LayerInput]
    _made: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def arguments(
        self, layer: int, state: Tensor, first: int, copies: int
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Arguments for ``copies`` states, one after the other, of sequences from ``first`` on.

        Args:
            layer: Which layer.
            state: States, ``(copies * n_sequences, length, width)``, one copy after the
                other.
            first: Number of the first of these sequences within the prelude.
            copies: How many states of each sequence there are.
        """
        given = self.inputs[layer]
        width = len(state) // copies
        leaves = [
            leaf if axis is None else self._rows(leaf, axis, first, width, copies)
            for leaf, axis in zip(given.leaves, given.axes, strict=True)
        ]
        leaves[given.state_at] = state
        args, kwargs = tree_unflatten(leaves, given.spec)
        return args, kwargs

    def _rows(self, leaf: object, axis: BatchAxis, first: int, width: int, copies: int) -> object:
        assert isinstance(leaf, Tensor)
        if leaf.shape[axis.axis] != axis.multiple:
            part = leaf.narrow(axis.axis, first * axis.multiple, width * axis.multiple)
            return part if copies == 1 else torch.cat([part] * copies, dim=axis.axis)
        key = (id(leaf), width * copies)  # the leaf is kept alive by `inputs`
        if key not in self._made:  # the same for every sequence, stored once
            self._made[key] = _repeated(leaf, axis, width * copies)
        return self._made[key]


def _repeated(leaf: Tensor, axis: BatchAxis, times: int) -> Tensor:
    if axis.multiple == 1:
        shape = list(leaf.shape)
        shape[axis.axis] = times
        return leaf.expand(shape)
    repeats = [1] * leaf.dim()
    repeats[axis.axis] = times
    return leaf.repeat(repeats)


Apply = Callable[[nn.Module, tuple[object, ...], dict[str, object]], object]
"""How a layer is called on its arguments."""


def _called(layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    return layer(*args, **kwargs)


class LayerWeights(Protocol):
    """Weights that are not all in memory at once."""

    carried: list[Carried]
    """How state travels through each layer."""

    def hold(self, layer: int) -> None:
        """Have the weights of one layer in memory; those of the others may be dropped."""

    def beginning(self) -> AbstractContextManager[None]:
        """A context in which everything before the first layer has its weights in memory."""
        ...

    def ending(self, modules: Sequence[nn.Module]) -> AbstractContextManager[None]:
        """A context in which these modules, which run after the layers, have their weights."""
        ...


class LayerStack:
    """The layers of a model, each of which can be run on any states.

    Args:
        model: A model in evaluation mode.
        stack: Its layers.
        tokens: A few sequences, ``(n_sequences, length)``, to learn the arguments from.
        weights: Brings the weights of a layer in before it runs, if they are not there already.

    Attributes:
        plays: ``(n_layers,)``, all True: every step of a walk through the layers is a player.
        apply: How a layer is called: as it is, or compiled.

    Raises:
        NotReplayable: The layers are not called in the way that replaying needs.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        tokens: Tensor,
        weights: LayerWeights | None = None,
    ) -> None:
        self.model, self.stack, self.weights = model, stack, weights
        self.plays = np.ones(stack.n_players, dtype=bool)
        self.apply: Apply = _called
        self.carried = carried_leaves(model, stack) if weights is None else weights.carried
        # Two sequences, then three: the axes that grow are those that carry the batch.
        narrow = self._calls(tokens[[0, -1]])
        wide = self._calls(tokens[[0, -1, 0]])
        self._axes = [_batch_axes(two, three) for two, three in zip(narrow, wide, strict=True)]

    def prelude(self, tokens: Tensor) -> Prelude:
        """Embed `tokens` ``(n_sequences, length)`` and collect what the layers are given."""
        # One forward of these texts shows everything that the layers are given for them.
        calls = self._calls(tokens)
        shared: dict[int, Tensor] = {}
        inputs = [self._input(layer, call, len(tokens), shared) for layer, call in enumerate(calls)]
        # Replaying needs the batch first: states of several coalitions are stacked there.
        embedded = calls[0].state
        if len(embedded) != len(tokens):
            raise NotReplayable("the state of its layers does not carry one row per sequence")
        return Prelude(embedded, inputs)

    def run(self, prelude: Prelude, layer: int, state: Tensor, first: int, copies: int) -> Tensor:
        """Apply one layer to ``copies`` states of the same sequences, from ``first`` on.

        Args:
            prelude: What comes before the first layer, for some sequences.
            layer: Which layer.
            state: States, ``(copies * n_sequences, length, width)``, one copy after the
                other.
            first: Number of the first of these sequences within the prelude.
            copies: How many states of each sequence there are.
        """
        if self.weights is not None:
            self.weights.hold(layer)
        args, kwargs = prelude.arguments(layer, state, first, copies)
        return leading(self.apply(self.stack.layers[layer], args, kwargs))

    def _input(
        self, layer: int, call: "_Call", n_sequences: int, shared: dict[int, Tensor]
    ) -> LayerInput:
        axes = list(self._axes[layer])
        leaves: list[object] = list(call.leaves)
        for at, (leaf, axis) in enumerate(zip(call.leaves, axes, strict=True)):
            if axis is None or at == call.state_at:
                continue
            assert isinstance(leaf, Tensor)
            if leaf.shape[axis.axis] != n_sequences * axis.multiple:
                raise NotReplayable(f"an argument of layer {layer} has no steady batch axis")
            # A mask is mostly one object for all layers: it is compared and kept once.
            if id(leaf) not in shared:
                shared[id(leaf)] = _once_if_same(leaf, axis)
            leaves[at] = shared[id(leaf)]
        axes[call.state_at] = None
        leaves[call.state_at] = None
        return LayerInput(leaves, call.spec, call.state_at, axes)

    def _calls(self, tokens: Tensor) -> list["_Call"]:
        """What each layer is given in a forward in which no layer does anything."""
        seen: dict[int, _Call] = {}
        last = self.stack.n_players - 1

        def spy(layer: int) -> Forward:
            def record(*args: object, **kwargs: object) -> object:
                if layer in seen:
                    raise NotReplayable(f"layer {layer} runs more than once in a forward")
                seen[layer] = _call(self.carried[layer], args, kwargs)
                if layer == last:
                    # Stop here: the head and its table of logits are not needed.
                    raise _Enough
                return self.carried[layer].through(args, kwargs)

            return record

        # No layer computes: each one hands on what it is given, so this costs an embedding.
        forwards = {layer: spy(i) for i, layer in enumerate(self.stack.layers)}
        there = nullcontext() if self.weights is None else self.weights.beginning()
        with there, patched(forwards), torch.no_grad(), suppress(_Enough):
            self.model(input_ids=tokens.to(input_device(self.model)), use_cache=False)
        if sorted(seen) != list(range(self.stack.n_players)):
            raise NotReplayable("its layers do not run in order, each once, in a forward")
        return [seen[layer] for layer in range(self.stack.n_players)]


class _Enough(Exception):
    """Every layer has been seen: the rest of the forward, the head above all, is not needed."""


@dataclass(frozen=True, eq=False)
class _Call:
    leaves: list[object]
    spec: TreeSpec
    state_at: int

    @property
    def state(self) -> Tensor:
        state = self.leaves[self.state_at]
        assert isinstance(state, Tensor)
        return state


def _call(carried: Carried, args: tuple[object, ...], kwargs: dict[str, object]) -> _Call:
    leaves, spec = tree_flatten((args, kwargs))
    state = _argument(carried.sources[0], args, kwargs)
    # Found by identity: an equal tensor, such as positions, is another object.
    places = [at for at, leaf in enumerate(leaves) if leaf is state]
    if not isinstance(state, Tensor) or not places:
        raise NotReplayable("its layers are not given their state as a tensor")
    return _Call(leaves, spec, places[0])


def _argument(
    key: ArgumentKey | None, args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    if isinstance(key, int):
        return args[key] if key < len(args) else None
    return kwargs.get(key) if key is not None else None


def _batch_axes(two: _Call, three: _Call) -> list[BatchAxis | None]:
    """The batch axis of each argument, from calls with two and with three sequences."""
    return [_batch_axis(a, b) for a, b in zip(two.leaves, three.leaves, strict=True)]


def _batch_axis(two: object, three: object) -> BatchAxis | None:
    if not isinstance(two, Tensor) or not isinstance(three, Tensor) or two.shape == three.shape:
        return None
    if two.dim() != three.dim():
        raise NotReplayable("an argument of its layers changes its number of axes with the batch")
    grown = [at for at, (a, b) in enumerate(zip(two.shape, three.shape, strict=True)) if a != b]
    # Some arguments have one row per head and sequence: the axis grows by more than one.
    multiple = three.shape[grown[0]] - two.shape[grown[0]]
    if len(grown) > 1 or two.shape[grown[0]] != 2 * multiple:
        raise NotReplayable("an argument of its layers has no single batch axis")
    return BatchAxis(grown[0], multiple)


def _once_if_same(leaf: Tensor, axis: BatchAxis) -> Tensor:
    """One sequence's part of an argument that is the same for all of them; else all of it."""
    first = leaf.narrow(axis.axis, 0, axis.multiple)
    times = leaf.shape[axis.axis] // axis.multiple
    return first.clone() if torch.equal(_repeated(first, axis, times), leaf) else leaf


def leading(output: object) -> Tensor:
    """The state a layer returns: the output itself, or the first tensor of several."""
    if isinstance(output, Tensor):
        return output
    return next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
