"""Where each parameter of a model lies in the files of a checkpoint; models without any weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from coterie.errors import ModelError
from coterie.models.checkpoints import auto_class
from coterie.models.shards import DTYPES
from coterie.models.sources import Source
from coterie.models.tensorfile import Entry


@dataclass(frozen=True)
class Place:
    """A parameter of a layer: where it belongs in the model and where it lies on disk."""

    owner: nn.Module
    name: str
    entry: Entry
    empty: nn.Parameter | Tensor


@contextmanager
def weightless() -> Iterator[None]:
    """Inside this block, modules are made with parameters on the meta device and real buffers."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        made = module._parameters[name]
        if made is not None:
            module._parameters[name] = nn.Parameter(made.to("meta"), requires_grad=False)

    nn.Module.register_parameter = register_empty  # type: ignore
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore


def empty_model(
    config: PretrainedConfig, dtype: torch.dtype, *, trust_remote_code: bool
) -> PreTrainedModel:
    """The model of a config with every parameter on the meta device."""
    with weightless():
        kind = auto_class(config)
        model = kind.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    return model.eval()


class DiskNames:
    """Finds the tensors of a model among those of a checkpoint, which may lack the base prefix."""

    def __init__(self, source: Source, model: PreTrainedModel) -> None:
        self._entries = {entry.name: entry for entry in source.entries}
        self._prefix = f"{model.base_model_prefix}."
        self._tied = _tied_names(model)

    def find(self, name: str) -> Entry | None:
        """Where the tensor lies that the model calls ``name``."""
        bare = name.removeprefix(self._prefix)
        for known in (name, bare, f"{self._prefix}{name}"):
            if known in self._entries:
                return self._entries[known]
        return self.find(self._tied[name]) if name in self._tied else None


def _tied_names(model: PreTrainedModel) -> dict[str, str]:
    """The output embedding, where it is the input embedding under another name."""
    if not getattr(model.config.get_text_config(decoder=True), "tie_word_embeddings", False):
        return {}
    names = {id(module): name for name, module in model.named_modules()}
    output, given = model.get_output_embeddings(), model.get_input_embeddings()
    return {f"{names[id(output)]}.weight": f"{names[id(given)]}.weight"}


def find_places(source: Source, model: PreTrainedModel) -> dict[str, Place]:
    """Where each parameter belongs and where it lies; every one has to be found."""
    names = DiskNames(source, model)
    places = {}
    for path, owner in model.named_modules():
        for name, parameter in owner._parameters.items():
            if parameter is None:
                continue
            full = f"{path}.{name}"
            entry = names.find(full)
            if entry is None:
                raise ModelError(
                    f"{source.name!r} cannot be streamed: its files hold no tensor {full!r}, for"
                    " transformers builds it from others; load it whole"
                )
            if entry.dtype not in DTYPES or entry.shape != tuple(parameter.shape):
                raise ModelError(
                    f"{source.name!r} cannot be streamed: {full!r} is {entry.dtype}"
                    f" {list(entry.shape)} on disk and {list(parameter.shape)} in the model; load"
                    " it whole"
                )
            places[full] = Place(owner, name, entry, parameter)
    return places
