"""Cut layers out of a model for good: the layers renumbered, the config rewritten."""

import re
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from coterie.errors import CutError
from coterie.models.cutting.config import checked_config, config_changes, cut_config
from coterie.models.families.fields import text_config
from coterie.models.families.registry import check_kept, family_of
from coterie.models.loaded.stack import find_stack

__all__ = ["config_changes", "cut_config", "cut_model", "renumbered"]


def renumbered(name: str, path: str, kept: tuple[int, ...]) -> str | None:
    """The new name of a tensor once only ``kept`` stay; None if its layer goes.

    Names outside the stack ``path`` stay as they are.

    Args:
        name: Of a tensor in the whole model.
        path: Of the list of layers.
        kept: Layers that stay, 0-based, ascending.
    """
    match = re.match(rf"{re.escape(path)}\.(\d+)(\..+)?$", name)
    if match is None:
        return name
    player = int(match[1])
    return f"{path}.{kept.index(player)}{match[2] or ''}" if player in kept else None


def cut_model(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A model of only the kept layers, in evaluation mode, whose weights ARE the given model's.

    No weight is copied or changed: the two models share their tensors (but for the few that a
    family rewrites), and the one given goes on as before.

    Args:
        model: The whole model.
        kept: The players that stay.

    Raises:
        CutError: An index out of range, named twice, or of a locked layer.
    """
    stack = find_stack(model)
    players = checked_config(kept, stack.n_players)
    check_kept(model.config, players, stack.n_players)
    config = cut_config(model.config, players, stack.n_players)
    with torch.device("meta"):
        new = type(model)(config)
    _share_tensors(model, new, stack.path, players)
    _share_plain_tensors(model, new, stack.path, players)
    new.tie_weights()
    new.generation_config = model.generation_config
    return new.eval()


def _share_tensors(
    model: PreTrainedModel, new: PreTrainedModel, path: str, kept: tuple[int, ...]
) -> None:
    family, config = family_of(text_config(model.config)), text_config(model.config)
    tensors = dict(_all_tensors(model))
    with torch.no_grad():
        for old_name, tensor in tensors.items():
            name = renumbered(old_name, path, kept)
            if name is None:
                continue
            if family.rewritten and re.search(family.rewritten, old_name):
                new_value = family.tensor_rule(old_name, tensors.__getitem__, config, kept)
                tensor = nn.Parameter(new_value, requires_grad=False)
            _assign(new, name, tensor)
    left = [name for name, tensor in _all_tensors(new) if tensor.is_meta]
    if left:
        raise CutError(f"the cut model has a tensor {left[0]} that the whole model has not")


def _all_tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    parameters = list(model.named_parameters(remove_duplicate=False))
    return parameters + list(model.named_buffers(remove_duplicate=False))


def _assign(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    parent, _, attribute = name.rpartition(".")
    module = model.get_submodule(parent)
    expected = getattr(module, attribute)
    if expected is not None and expected.shape != tensor.shape:
        raise CutError(
            f"the cut model wants {name} of shape {tuple(expected.shape)}, it has"
            f" {tuple(tensor.shape)}: this family needs a rule of its own (register_family)"
        )
    # Straight into the table: `setattr` would make a Parameter of nothing but a Parameter.
    table: dict[str, torch.Tensor | None] = (
        module._buffers if attribute in module._buffers else module._parameters  # type: ignore
    )
    table[attribute] = tensor


def _share_plain_tensors(
    model: PreTrainedModel, new: PreTrainedModel, path: str, kept: tuple[int, ...]
) -> None:
    """Tensors that are plain attributes, not buffers, were built on the meta device as well."""
    for old_name, module in model.named_modules():
        name = renumbered(old_name, path, kept)
        if name is None:
            continue
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                setattr(new.get_submodule(name), attribute, value)
