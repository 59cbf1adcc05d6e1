"""The linear maps of a decoder layer: which weights may become zero, and how they lie in memory.

Maps are `nn.Linear`, the `Conv1D` of GPT-2, and the single experts of fused expert tensors.
Routers, gates that choose experts, norms, embeddings, convolutions and the head are no maps.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from coterie.errors import ModelError
from coterie.models.loaded.stack import Stack
from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.levels import LayerLevel, Level

# What chooses experts is small, and an error there sends tokens to the wrong expert.
_ROUTER = re.compile(r"(^|\.)(gate|\w*expert\w*_gate|\w*router\w*)(\.|$)", re.IGNORECASE)
_EXPERTS = re.compile(r"expert", re.IGNORECASE)

_EXPERTS_TRANSPOSED = {"Llama4TextExperts": True, "JetMoeParallelExperts": False}
"""Fused experts whose class does not say itself whether a weight is (in, out)."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """One linear map of a layer.

    Attributes:
        name: Inside its layer, such as ``"mlp.up_proj"`` or ``"mlp.experts.down_proj[3]"``.
        parameter: Name inside its layer of the parameter that holds it.
        owner: The module that has the parameter.
        expert: Its place in a fused parameter ``(n_experts, ..)``; None if it has one of its own.
        transposed: Whether it lies as ``(in, out)``.
    """

    name: str
    parameter: str
    owner: nn.Module
    expert: int | None
    transposed: bool

    @property
    def whole(self) -> Tensor:
        """The parameter that holds it."""
        tensor = getattr(self.owner, self.parameter.rpartition(".")[2])
        assert isinstance(tensor, Tensor)
        return tensor.detach()

    @property
    def weight(self) -> Tensor:
        """The map itself, ``(out, in)``; a view, nothing is copied."""
        return self.within(self.whole)

    def within(self, whole: Tensor) -> Tensor:
        """The part ``(out, in)`` of a tensor that is shaped as the parameter; a view."""
        part = whole if self.expert is None else whole[self.expert]
        return part.T if self.transposed else part

    @property
    def block(self) -> str:
        """The part of the layer it lies in, such as ``"self_attn"`` or ``"mlp"``."""
        return self.name.partition(".")[0]

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return self.weight.numel()


def linear_maps(stack: Stack, layer: int) -> tuple[LinearMap, ...]:
    """The linear maps of one layer, in the order of its modules.

    Raises:
        ModelError: A weight is packed or shared with another layer, or the layer holds experts in a
            form that is not known, or no map at all.
    """
    where = f"{stack.path}.{layer}"
    maps = [
        found
        for name, module in stack.layers[layer].named_modules()
        for found in _maps(name, module, where)
    ]
    if not maps:
        raise ModelError(f"layer {where} holds no linear map: there is nothing in it to sparsify")
    # By identity: layers that share weights hold the same tensor object.
    others = {
        id(tensor)
        for place, module in enumerate(stack.layers)
        if place != layer
        for tensor in module.parameters()
    }
    for found in maps:
        if id(getattr(found.owner, found.parameter.rpartition(".")[2])) in others:
            raise ModelError(
                f"{where}.{found.parameter} is shared with another layer, so it cannot have a"
                " sparsity of its own: cut whole layers of this model instead (coterie prune)"
            )
    return tuple(maps)


def _maps(name: str, module: nn.Module, where: str) -> Iterator[LinearMap]:
    if _ROUTER.search(name):
        return
    if isinstance(module, nn.Linear | Conv1D):
        parameter = f"{name}.weight"
        if not module.weight.is_floating_point():
            raise ModelError(f"{where}.{parameter} is quantized: sparsify before quantizing")
        yield LinearMap(name, parameter, module, None, isinstance(module, Conv1D))
        return
    # Fused experts: one parameter of three dimensions in a module that is not a Linear.
    for key, tensor in module.named_parameters(recurse=False):
        if tensor.dim() >= 2 and _EXPERTS.search(f"{name}.{type(module).__name__}"):
            yield from _experts(f"{name}.{key}", module, tensor, where)


def _experts(parameter: str, module: nn.Module, tensor: Tensor, where: str) -> Iterator[LinearMap]:
    kind = type(module).__name__
    # Newer expert classes say it themselves; the table above has the others.
    transposed = getattr(module, "is_transposed", _EXPERTS_TRANSPOSED.get(kind))
    if parameter.endswith("bias"):
        return
    if transposed is None or tensor.dim() != 3 or not tensor.is_floating_point():
        raise ModelError(
            f"{where}.{parameter} {list(tensor.shape)} holds experts in a form ({kind}) that is"
            " not known: cut whole layers of this model instead (coterie prune)"
        )
    for expert in range(len(tensor)):
        yield LinearMap(f"{parameter}[{expert}]", parameter, module, expert, transposed)


def level_of(level: LayerLevel, found: LinearMap) -> Level:
    """The level that a layer's level gives to one of its maps."""
    if not isinstance(level, Mapping):
        return level
    # The longest name is the most precise: "mlp.up_proj" counts before "mlp".
    names = [name for name in level if _is_under(found.name, name)]
    return level[max(names, key=len)] if names else 0.0


def check_names(level: LayerLevel, maps: tuple[LinearMap, ...], where: str) -> None:
    """Refuse levels for maps that are not there.

    Args:
        level: Of a layer, perhaps by name.
        maps: The linear maps of that layer.
        where: What the layer is called in the message.

    Raises:
        SparsityError: Names the first, and the maps there are.
    """
    if not isinstance(level, Mapping):
        return
    for name in level:
        if not any(_is_under(found.name, name) for found in maps):
            known = ", ".join(found.name for found in maps[:8])
            raise SparsityError(f"layer {where} has no linear map {name!r}: it has {known}")


def _is_under(name: str, prefix: str) -> bool:
    # A dot or a bracket ends a name: "mlp" is not the beginning of "mlp2".
    return name == prefix or name.startswith((f"{prefix}.", f"{prefix}["))
