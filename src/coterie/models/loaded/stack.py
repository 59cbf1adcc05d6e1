"""Where a model keeps its decoder layers: the players of the game, and those that cannot be cut."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from coterie.errors import ModelError
from coterie.models.families.fields import COUNT_FIELDS, layer_counts, text_config
from coterie.models.families.registry import Family, family_of, locks_of

log = logging.getLogger("coterie.models")

ELSEWHERE = re.compile(
    r"expert|vision|visual|vqmodel|audio|image|speech|mtp|depth_decoder", re.IGNORECASE
)
"""Parts of a model that hold numbered layers of other kinds."""


Players = Literal["layer", "attention", "mlp", "sublayer"]
"""What a player is: a whole layer, its attention block, its feed-forward block, or either."""

PLAYERS: tuple[Players, ...] = get_args(Players)


@dataclass(frozen=True, eq=False)
class Stack:
    """The decoder layers of one model, in order: player ``i`` is ``layers[i]``.

    Attributes:
        path: Dotted name of the list inside the model, such as ``"model.layers"``.
        layers: The layer modules themselves, not copies.
        locks: Players that must stay, each with the reason.
        players: What a player is; `layers` holds blocks of layers where it is not ``"layer"``.
    """

    path: str
    layers: tuple[nn.Module, ...]
    locks: dict[int, str] = field(default_factory=dict)
    players: Players = "layer"

    @property
    def n_players(self) -> int:
        """Number of players, locked or not."""
        return len(self.layers)

    @property
    def unlocked(self) -> tuple[int, ...]:
        """The players that may be cut, ascending."""
        return tuple(player for player in range(self.n_players) if player not in self.locks)


def find_stack(model: PreTrainedModel) -> Stack:
    """Find the decoder layers of a causal language model, and the reasons some must stay.

    The stack is the `nn.ModuleList` whose length the config gives as its number of layers, outside
    the expert, vision and audio parts; of several, the one with most parameters.

    Raises:
        ModelError: No list fits; the message says what was looked for and how to register it.
    """
    config = text_config(model.config)
    family = family_of(config)
    # What a family says comes before what is found by counting.
    name, layers = _registered(model, family) or _counted(model, config)
    stack = Stack(name, tuple(layers), locks_of(model.config, len(layers)))
    log.debug("%d layers at %s, locked: %s", stack.n_players, name, list(stack.locks) or "none")
    return stack


def _registered(model: PreTrainedModel, family: Family) -> tuple[str, nn.ModuleList] | None:
    if family.stack is None:
        return None
    try:
        layers = model.get_submodule(family.stack)
    except AttributeError as error:
        raise ModelError(
            f"{type(model).__name__} has no module {family.stack!r}, where its family is registered"
            " to keep its layers: call"
            " coterie.models.families.registry.register_family with the right path"
        ) from error
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(
            f"{family.stack!r} of {type(model).__name__} is a {type(layers).__name__}, not an"
            " nn.ModuleList of layers: register the list itself"
        )
    return family.stack, layers


def _counted(model: PreTrainedModel, config: PretrainedConfig) -> tuple[str, nn.ModuleList]:
    # The likeliest field first, for a config may state several numbers of layers.
    counts = layer_counts(config)
    lists = list(_module_lists(model))
    for count in counts.values():
        # Two lists may be equally long: the decoder has more parameters than the rest.
        fitting = [(name, layers) for name, layers in lists if len(layers) == count]
        if fitting:
            return max(fitting, key=lambda found: _n_parameters(found[1]))
    # The message lists what there is, so that the path to register can be read off it.
    seen = ", ".join(f"{name} ({len(layers)})" for name, layers in lists) or "none at all"
    raise ModelError(
        f"no stack of decoder layers in {type(model).__name__} (model type"
        f" {config.model_type!r}): looked for an nn.ModuleList as long as one of"
        f" {counts or COUNT_FIELDS}, saw {seen}. If it has one, register it: coterie.models"
        f".families.register_family({config.model_type!r}, Family(stack='path.to.layers'))"
    )


def _module_lists(model: nn.Module) -> Iterator[tuple[str, nn.ModuleList]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) and not ELSEWHERE.search(name):
            yield name, module


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
