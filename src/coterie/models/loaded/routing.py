"""Run a model with some of its players skipped, without touching or copying a weight."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten
from transformers import Cache, PreTrainedModel

from coterie.errors import CutError
from coterie.models.loaded.stack import Stack

Forward = Callable[..., object]


@contextmanager
def routed(model: PreTrainedModel, stack: Stack, coalition: Sequence[bool]) -> Iterator[None]:
    """Inside this block, `model` runs only the players that ``coalition`` keeps.

    A skipped layer hands on what it was given, as if it had been deleted. Only the attribute
    `forward` of the skipped layer objects changes, and it is put back whatever happens.

    Run the model with ``use_cache=False``: positions in a key-value cache are counted on the first
    layer, which may be skipped, so a skipped layer that is handed a cache refuses. To generate,
    cut the model (`coterie.models.cutting.in_memory.cut_model`).

    Args:
        model: The model that `stack` was found in.
        stack: Its decoder layers.
        coalition: Shape ``(n_players,)``; True keeps the player.
    """
    keep = np.asarray(coalition, dtype=bool)
    if keep.shape != (stack.n_players,):
        raise CutError(
            f"the coalition has shape {keep.shape}, the model {stack.n_players} players: give one"
            " Boolean per player"
        )
    skipped = np.flatnonzero(~keep)
    if stack.players == "layer":
        # A layer that is skipped must return what it was given, in the form that it returns.
        carried = carried_leaves(model, stack)
        forwards = {stack.layers[i]: _skip(carried[i], f"{stack.path}.{i}") for i in skipped}
    else:
        forwards = {stack.layers[i]: zero_output(stack.layers[i]) for i in skipped}
    with patched(forwards):
        yield


@contextmanager
def patched(forwards: dict[nn.Module, Forward]) -> Iterator[None]:
    """Replace the `forward` of module objects; whatever was on the objects before comes back."""
    before = {module: module.__dict__.get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, old in before.items():
            if old is None:
                module.__dict__.pop("forward", None)
            else:  # another library, such as accelerate, had patched the object before us
                module.forward = old


ArgumentKey = int | str
"""The position or the keyword under which a layer receives an argument."""


@dataclass(frozen=True)
class Carried:
    """What a layer returns, and which of its arguments stands in for each leaf when it is skipped.

    Attributes:
        spec: The tree of what the layer returns.
        sources: For each leaf, the argument that brings the same state into the layer, or None
            where nothing is handed on (attention weights, router scores).
    """

    spec: TreeSpec
    sources: tuple[ArgumentKey | None, ...]

    def through(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """The return value of the layer, had it been deleted."""
        given = _keyed(args, kwargs)
        leaves = [None if key is None else given.get(key) for key in self.sources]
        return tree_unflatten(leaves, self.spec)


NOTHING_CARRIED = Carried(tree_flatten(None)[1], (None,))
"""For a layer that never runs: nobody asks what it would return."""


@dataclass(frozen=True, eq=False)
class Call:
    """One run of one player: what it was given and what it returned."""

    player: int
    args: tuple[object, ...]
    kwargs: dict[str, object]
    returned: object


_learned: WeakKeyDictionary[nn.Module, list[Carried]] = WeakKeyDictionary()


def carried_leaves(model: PreTrainedModel, stack: Stack) -> list[Carried]:
    """Learn, from one forward of four tokens, how state travels from each layer to the next.

    A leaf of what a layer returns is carried by the argument in which the layer that runs next
    receives the same object; leaf 0 is the hidden state. Remembered as long as the model lives. A
    layer that does not run on text alone carries nothing.
    """
    if model not in _learned:
        calls = record_calls(model, stack)
        learned = dict.fromkeys(range(stack.n_players), NOTHING_CARRIED)
        # Backwards, so that of a layer that runs twice the first run is what stays.
        for place in reversed(range(len(calls))):
            following = calls[place + 1] if place + 1 < len(calls) else None
            learned[calls[place].player] = _carried(calls[place], following)
        _learned[model] = [learned[player] for player in range(stack.n_players)]
    return _learned[model]


def record_calls(model: PreTrainedModel, stack: Stack) -> list[Call]:
    """What the layers are given and return in one forward of four tokens, in the order they run."""
    calls: list[Call] = []

    def recorder(player: int, forward: Forward) -> Forward:
        def record(*args: object, **kwargs: object) -> object:
            returned = forward(*args, **kwargs)
            calls.append(Call(player, args, kwargs, returned))
            return returned

        return record

    forwards = {layer: recorder(i, layer.forward) for i, layer in enumerate(stack.layers)}
    # Four tokens suffice: only the way of the tensors matters, not their values.
    tokens = torch.arange(4, device=input_device(model))[None]
    with patched(forwards), torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    return calls


def input_device(model: PreTrainedModel) -> torch.device:
    """The device that token ids must lie on: where the embeddings are when they run.

    accelerate keeps an offloaded weight on the meta device and brings it to its hook's device.
    """
    embeddings = model.get_input_embeddings()
    device = next(embeddings.parameters()).device
    if device.type != "meta":
        return device
    hook = getattr(embeddings, "_hf_hook", None)
    asked = getattr(hook, "execution_device", None)
    return device if asked is None else torch.device(asked)


def _carried(call: Call, following: Call | None) -> Carried:
    leaves, spec = tree_flatten(call.returned)
    given = _keyed(call.args, call.kwargs)
    received = {} if following is None else _keyed(following.args, following.kwargs)
    sources: list[ArgumentKey | None] = []
    for leaf in leaves:
        tensor = isinstance(leaf, torch.Tensor)
        # The same object, not an equal one: two tensors may hold equal values by chance.
        keys = [key for key, value in received.items() if tensor and value is leaf]
        sources.append(keys[0] if keys and keys[0] in given else None)
    sources[0] = _hidden_key(given) if sources[0] is None else sources[0]
    return Carried(spec, tuple(sources))


def _hidden_key(given: dict[ArgumentKey, object]) -> ArgumentKey:
    # The model may work on the state between two layers, so that no object is handed on.
    named = [key for key in given if key in ("hidden_states", "hidden", "x", "inputs")]
    tensors = [key for key, value in given.items() if isinstance(value, torch.Tensor)]
    return (named + tensors)[0]


def _keyed(args: tuple[object, ...], kwargs: dict[str, object]) -> dict[ArgumentKey, object]:
    keyed: dict[ArgumentKey, object] = dict(enumerate(args))
    return keyed | dict(kwargs)


def _skip(carried: Carried, name: str) -> Forward:
    def skip(*args: object, **kwargs: object) -> object:
        for argument, value in _keyed(args, kwargs).items():
            if isinstance(value, Cache):
                raise CutError(
                    f"skipped layer {name} was handed a cache ({argument}): run the model with"
                    " use_cache=False, or cut it"
                    " (coterie.models.cutting.in_memory.cut_model) to generate"
                )
        return carried.through(args, kwargs)

    return skip


def zero_output(block: nn.Module) -> Forward:
    """A forward that adds nothing: what the block returns, with the state all zeros.

    The state is the first leaf and has the shape of what enters; other leaves are None.
    """
    returns_tuple = _returns_tuple(block)

    def forward(*args: object, **kwargs: object) -> object:
        entering = next(
            leaf
            for leaf in [kwargs.get("hidden_states"), *tree_leaves((args, kwargs))]
            if isinstance(leaf, torch.Tensor)
        )
        nothing = torch.zeros_like(entering)
        return (nothing, None) if returns_tuple else nothing

    return forward


def _returns_tuple(block: nn.Module) -> bool:
    # Attention returns its weights beside the state; the annotation of `forward` says whether.
    annotation = str(getattr(type(block).forward, "__annotations__", {}).get("return", ""))
    return "tuple" in annotation.lower()
