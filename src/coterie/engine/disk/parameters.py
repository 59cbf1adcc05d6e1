"""Where each parameter of a model lies in the files of a checkpoint; models without any weights."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from coterie.errors import ModelError
from coterie.models.files.shards import DTYPES
from coterie.models.files.sources import Source
from coterie.models.files.tensors import Entry
from coterie.models.loaded.load import auto_class

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Place:
    """A parameter of a layer: where it belongs in the model and where it lies on disk.

    Attributes:
        owner: The module that it is a parameter of.
        name: Under which name.
        entry: Its bytes on disk.
        empty: What stands for it while it is not there; its dtype is the one to compute in.
    """

    owner: nn.Module
    name: str
    entry: Entry
    empty: nn.Parameter | Tensor

    @property
    def dtype(self) -> torch.dtype:
        """What the parameter is computed in."""
        return self.empty.dtype

    @property
    def n_bytes(self) -> int:
        """Bytes of the parameter as it is computed with."""
        return self.entry.n_values * self.dtype.itemsize

    @property
    def converted(self) -> bool:
        """Whether it is computed in another dtype than it has on disk."""
        return DTYPES[self.entry.dtype] != self.dtype


@contextmanager
def weightless() -> Iterator[None]:
    """Inside this block, modules are made with parameters on the meta device and real buffers."""
    # Every module registers its parameters through this method, whatever its class.
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
    """The model of a config with every parameter on the meta device.

    Parameters have the dtypes, and buffers the values, that they have where the model is loaded.

    Args:
        config: Of the model.
        dtype: What its weights will be computed in.
        trust_remote_code: Whether Python files of the checkpoint may be run.
    """
    with weightless():
        kind = auto_class(config)
        model = kind.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    _fill_buffers_again(model)
    _keep_in_float32(model, dtype)
    return model.eval()


def _fill_buffers_again(model: PreTrainedModel) -> None:
    """Compute buffers as loading does: in float32, where `from_config` computes in the dtype."""
    # `initialize_weights` skips modules that carry this mark.
    for module in model.modules():
        module.__dict__.pop("_is_hf_initialized", None)
    model.initialize_weights()


def _keep_in_float32(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give tensors float32 that loading keeps in float32 whatever dtype is asked for."""
    # transformers has two lists: one for both half precisions, one for float16 alone.
    names = set(model._keep_in_fp32_modules_strict or ()) if dtype in _HALF else set()
    if dtype == torch.float16:
        names |= set(model._keep_in_fp32_modules or ())
    if not names:
        return
    kept = re.compile("|".join(name.replace("*", ".*") for name in sorted(names)))
    tied = _tied_names(model)
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            # A tied tensor is kept in float32 if it is kept under the name it has on disk.
            full = f"{path}.{name}"
            if parameter is not None and kept.search(tied.get(full, full)):
                module._parameters[name] = nn.Parameter(parameter.float(), requires_grad=False)
        for name, buffer in module._buffers.items():
            loaded = name not in module._non_persistent_buffers_set
            if buffer is not None and loaded and kept.search(f"{path}.{name}"):
                module._buffers[name] = buffer.float()


class DiskNames:
    """Finds the tensors of a model among those of a checkpoint, which may lack the base prefix."""

    def __init__(self, source: Source, model: PreTrainedModel) -> None:
        self._entries = {entry.name: entry for entry in source.entries}
        self._prefix = f"{model.base_model_prefix}."
        self._tied = _tied_names(model)

    def find(self, name: str) -> Entry | None:
        """Where the tensor lies that the model calls ``name``."""
        # A base model's checkpoint has names without the prefix, a causal model's has it.
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
    """Where each parameter belongs and where it lies; every one has to be found.

    Raises:
        ModelError: The files lack one, or hold it in another shape or kind of number.
    """
    names = DiskNames(source, model)
    places, missing = {}, list[str]()
    for path, owner in model.named_modules():
        for name, parameter in owner._parameters.items():
            if parameter is None:
                continue
            full = f"{path}.{name}".removeprefix(".")
            entry = names.find(full)
            if entry is None:
                missing.append(full)
                continue
            if entry.dtype not in DTYPES or entry.shape != tuple(parameter.shape):
                raise ModelError(
                    f"{source.name!r} cannot be streamed: {full!r} is {entry.dtype}"
                    f" {list(entry.shape)} on disk and {list(parameter.shape)} in the model; load"
                    " it whole"
                )
            places[full] = Place(owner, name, entry, parameter)
    if missing:
        raise ModelError(
            f"{source.name!r} cannot be streamed: its files hold no tensor {_why(missing)}; load it"
            " whole"
        )
    return places


def _why(missing: list[str]) -> str:
    """One tensor that the files lack, and why; an expert's, where there is one."""
    # The message is about one tensor: an expert's name shows the reason at once.
    experts = [name for name in missing if ".experts." in name]
    if experts:
        return (
            f"{experts[0]!r}, for transformers merges the experts of mixtures such as Mixtral,"
            " Qwen MoE and DeepSeek as it loads them"
        )
    return f"{missing[0]!r}, for transformers builds it from others"
