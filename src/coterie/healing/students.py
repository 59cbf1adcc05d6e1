"""What learns: the kept layers of a full model, next to which that model stays as it was.

The full model is loaded once. Its kept layers are the student, all of its layers the teacher, and
the weights themselves never move: a student adds low-rank adapters to them (LoRA,
arXiv:2106.09685), or has weights of its own for whatever it trains. Where the teacher's predictions
are in files, the student is the cut model, of which all layers are kept, and whose own weights may
move.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from coterie.healing.origin import HealError
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import Stack

NO_REPAIR: Mapping[str, Tensor] = {}
"""Where the kept layers are as the full model has them."""

REFUSED = {
    kind: frozenset(["out_proj", "conv1d"])
    for kind in ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
}
"""Modules that take no adapter, by model type: state-space kernels read them directly."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a trained weight stands in a model.

    Attributes:
        module: The module that computes with it.
        leaf: Its name there.
        theirs: What stands there while nobody learns.
        mine: What is trained, in float32: 16 bits would round small steps away.
        dtype: What the module computes in.
    """

    module: nn.Module
    leaf: str
    theirs: nn.Parameter
    mine: nn.Parameter
    dtype: torch.dtype


@contextmanager
def standing(places: Sequence[Place]) -> Iterator[None]:
    """Inside this block trained weights stand in the model, rounded to what it computes in.

    Rounding hands gradients on, so they reach the weights that are trained.
    """
    # Tied weights have one parameter and several places: they are rounded once.
    rounded = {one.mine: one.mine.to(one.dtype) for one in places}
    try:
        for one in places:
            vars(one.module)["_parameters"][one.leaf] = rounded[one.mine]
        yield
    finally:
        for one in places:
            one.module._parameters[one.leaf] = one.theirs


class Student(ABC):
    """A full model some of whose layers are skipped when it learns.

    Args:
        model: The full model, frozen from here on.
        stack: Its layers.
        kept: The players the student keeps.
        repaired: Weights it begins with instead of the full model's, by their names there.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        kept: Sequence[int],
        repaired: Mapping[str, Tensor] = NO_REPAIR,
    ) -> None:
        self.model, self.stack, self.kept = model, stack, tuple(kept)
        # By the parameters themselves: adapters give them other names.
        named = ((model.get_parameter(name), value) for name, value in repaired.items())
        self._repaired = [(one, value.to(one)) for one, value in named]
        # The same Boolean row that a game would play: True is kept.
        self.coalition = [player in self.kept for player in range(stack.n_players)]
        model.requires_grad_(False)

    @property
    @abstractmethod
    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""

    @abstractmethod
    def predict(self, tokens: Tensor) -> Tensor:
        """Logits of the kept layers as trained so far; call it inside `alone`."""

    @abstractmethod
    def merged(self) -> dict[str, Tensor]:
        """The trained weights, float32 on the CPU, by their name in the model."""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside this block only the kept layers run, with the weights that a repair gave them."""
        with self._in_place(), routed(self.model, self.stack, self.coalition):
            yield

    @contextmanager
    def rounded(self, dtype: torch.dtype) -> Iterator[None]:
        """Inside this block what was learned is rounded as files of a dtype hold it.

        Use it inside `alone`. A damaged model loses or gains hundredths of a nat by rounding alone.

        Args:
            dtype: Of the files.
        """
        before = [one.data for one in self.trained.values()]
        try:
            for one in self.trained.values():
                one.data = one.data.to(dtype).to(one.data.dtype)
            yield
        finally:
            for one, value in zip(self.trained.values(), before, strict=True):
                one.data = value

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        before = [one.data for one, _ in self._repaired]
        try:
            for one, value in self._repaired:
                one.data = value
            yield
        finally:
            for (one, _), value in zip(self._repaired, before, strict=True):
                one.data = value


class KnowsFullModel(Protocol):
    """A student whose full model can still be asked."""

    stack: Stack

    def full_logits(self, tokens: Tensor) -> Tensor:
        """Logits of the full model as it came; no gradient."""
        ...


class Adapted(Student):
    """Low-rank adapters on the linear modules of the kept layers."""

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        kept: Sequence[int],
        *,
        rank: int,
        seed: int,
        repaired: Mapping[str, Tensor] = NO_REPAIR,
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        super().__init__(model, stack, kept, repaired)
        targets = adaptable(model, stack, kept)
        # alpha = rank, so the adapter is added as it is: W + B A (arXiv:2106.09685, section 4.1).
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, use_rslora=False)
        # The seed is for the adapters alone: the generator of the caller is not moved.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model)
        modules = ((name, model.get_submodule(name)) for name in targets)
        self.adapters = {name: cast("_Adapter", module) for name, module in modules}
        named = model.named_parameters()
        self._own = {name: one for name, one in named if ".lora_" in name}
        self._places = [self._place(name, one) for name, one in self._own.items()]

    def _place(self, name: str, one: nn.Parameter) -> Place:
        """A matrix that peft made in the dtype of the weight beside it, from here on in float32."""
        module, _, leaf = name.rpartition(".")
        dtype, one.data = one.dtype, one.data.float()
        return Place(self.model.get_submodule(module), leaf, one, one, dtype)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The matrices of the adapters."""
        return self._own

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside this block only the kept layers run, with their adapters."""
        with standing(self._places), super().alone():
            yield

    def full_logits(self, tokens: Tensor) -> Tensor:
        """Logits of the full model, no adapter on."""
        self._switch(False)
        with torch.no_grad():
            logits = self.model(input_ids=tokens, use_cache=False).logits
        self._switch(True)
        return logits

    def predict(self, tokens: Tensor) -> Tensor:
        """Logits of the kept layers with their adapters."""
        return self.model(input_ids=tokens, use_cache=False).logits

    def merged(self) -> dict[str, Tensor]:
        """Each adapted weight with its adapter added."""
        found = {}
        with self._in_place():
            for name, module in self.adapters.items():
                change = module.get_delta_weight("default").detach().float().cpu()
                base = module.get_base_layer().weight.detach().float().cpu()
                found[f"{name}.weight"] = base + change
        return found

    @contextmanager
    def rounded(self, dtype: torch.dtype) -> Iterator[None]:
        """The same; what is rounded is each weight with its adapter added, as it is written."""
        places = [one.get_base_layer().weight for one in self.adapters.values()]
        before = [one.data for one in places]
        self._switch(False)
        try:
            for one, merged in zip(places, self.merged().values(), strict=True):
                one.data = merged.to(dtype).to(one.data)
            yield
        finally:
            for one, value in zip(places, before, strict=True):
                one.data = value
            self._switch(True)

    def _switch(self, on: bool) -> None:
        for module in self.adapters.values():
            module.enable_adapters(on)


def adaptable(model: PreTrainedModel, stack: Stack, kept: Sequence[int]) -> list[str]:
    """The modules of the kept layers that take an adapter, by name.

    Args:
        model: The model that learns.
        stack: Its layers.
        kept: The players that stay.

    Raises:
        HealError: there are none.
    """
    refused = REFUSED.get(str(model.config.model_type), frozenset())
    # Conv1D is the linear layer of GPT-2, stored the other way round.
    names = [
        f"{stack.path}.{player}.{name}"
        for player in kept
        for name, module in stack.layers[player].named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name.rpartition(".")[2] not in refused
    ]
    if not names:
        raise HealError(
            f"no layer of this {type(model).__name__} has a linear module that takes an adapter:"
            " --mode full trains the weights themselves"
        )
    return names


class _Weighted(Protocol):
    weight: Tensor


class _Adapter(Protocol):
    """What we use of peft's LoRA layer."""

    def enable_adapters(self, enabled: bool) -> None: ...

    def get_delta_weight(self, adapter: str) -> Tensor: ...

    def get_base_layer(self) -> _Weighted: ...
