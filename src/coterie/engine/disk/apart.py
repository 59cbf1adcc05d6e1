"""A model whose weights are on disk, taken apart: its head is found, and its layers are checked."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from transformers import PreTrainedModel

from coterie.engine.disk.layer_weights import ShardedWeights
from coterie.engine.parts.head import ProjectionHead, TailNotFound, find_head
from coterie.engine.parts.layers import LayerStack, NotReplayable, running_apart
from coterie.engine.parts.replay import check_replay
from coterie.models.loaded.routing import Carried, Forward, patched
from coterie.models.loaded.stack import Stack

FIRST_LAYERS = 2
"""First layers compared with the model's own forward, besides one of each class and the last."""


def telling_layers(stack: Stack) -> list[int]:
    """The layers that say most about the rest: the first ones, one of each class, and the last.

    Layers that share something with earlier ones come late in a model.
    """
    # Built from the last layer to the first, so that the first of each class stays.
    first_of = {type(stack.layers[i]): i for i in reversed(range(stack.n_players))}
    first = range(min(FIRST_LAYERS, stack.n_players))
    return sorted({*first, *first_of.values(), stack.n_players - 1})


def check_streamed(
    layers: LayerStack, weights: ShardedWeights, tokens: Tensor, chosen: Sequence[int]
) -> str:
    """Compare some layers with the model's own forward; only these are read.

    The others return what they are given, both when run on their own and in the model.

    Args:
        layers: The layers of the model; they are left as they are.
        weights: What brings their weights in.
        tokens: A few texts, ``(n_sequences, length)``.
        chosen: The layers to check, ascending.

    Returns:
        What was compared, and how near it came, in one phrase.

    Raises:
        NotReplayable: they differ, so no streamed result can be trusted.
    """
    stack, layers = layers.stack, copy(layers)
    # A copy of the stack, whose weights are read for the chosen layers only.
    layers.weights = _SomeWeights(weights, chosen)
    others: dict[nn.Module, Forward] = {
        stack.layers[other]: partial(_through, layers.carried[other])
        for other in set(range(stack.n_players)) - set(chosen)
    }
    with running_apart(), patched(others):
        worst = check_replay(layers.model, layers, tokens)
    # The buffers go back: the first pass makes its own.
    weights.forget()
    some = f"the first {FIRST_LAYERS} layers, one of each class and the last"
    return (
        f"{some if others else 'all layers'} on two sequences, as in the model's own forward to"
        f" {worst:.0e} of the state{'; the others are not checked' if others else ''}"
    )


def find_streamed_head(
    model: PreTrainedModel, stack: Stack, weights: ShardedWeights, tokens: Tensor
) -> ProjectionHead:
    """Find the head by a forward in which only the last layer does anything, and try it.

    The last layer returns random states. The embedding itself would not do: it may be normalised
    already, and a norm that changes nothing could not be found.

    Args:
        model: Without weights.
        stack: Its layers.
        weights: What brings the weights in; it has learnt how state travels.
        tokens: A few texts, ``(n_sequences, length)``.

    Raises:
        NotReplayable: There is no head that can be run apart.
    """
    carried, returned = weights.carried, list[Tensor]()

    def last(*args: object, **kwargs: object) -> object:
        leaves, spec = tree_flatten(carried[-1].through(args, kwargs))
        # In the dtype that the last layer really hands on: the norm behind it may depend on it.
        returned.append(_random(leaves[0]).to(leaves[0].device, weights.last_dtype))
        return tree_unflatten([returned[-1], *leaves[1:]], spec)

    forwards: dict[nn.Module, Forward] = {
        layer: partial(_through, how) for layer, how in zip(stack.layers, carried, strict=True)
    }
    forwards[stack.layers[-1]] = last
    with weights.ending(list(model.modules())), patched(forwards), torch.no_grad():
        try:
            head = find_head(model, stack, tokens)
        except TailNotFound as reason:
            raise NotReplayable(str(reason)) from reason
        with running_apart("its head"):
            head.logits(head.normed(returned[-1]).flatten(0, -2), 0, 1)
    return head


class _SomeWeights:
    """Loads the weights of some layers; the others do not run."""

    def __init__(self, weights: ShardedWeights, chosen: Sequence[int]) -> None:
        self.carried, self._weights, self._chosen = weights.carried, weights, chosen

    def hold(self, layer: int) -> None:
        if layer in self._chosen:
            later = [other for other in self._chosen if other > layer]
            self._weights.hold(layer, later[0] if later else None)

    def beginning(self) -> AbstractContextManager[None]:
        return self._weights.beginning()

    def ending(self, modules: Sequence[nn.Module]) -> AbstractContextManager[None]:
        return self._weights.ending(modules)


def _through(carried: Carried, *args: object, **kwargs: object) -> object:
    return carried.through(args, kwargs)


def _random(like: Tensor) -> Tensor:
    """Random states, of a different size at every token."""
    values = torch.randn(like.shape, generator=torch.Generator().manual_seed(0))
    return values * torch.linspace(0.3, 3, values[..., 0].numel()).view(*like.shape[:-1], 1)
