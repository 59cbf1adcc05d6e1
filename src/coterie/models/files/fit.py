"""Do the tensors on disk fill the model of the config? Asked of transformers, answered in words."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from coterie.errors import ModelError
from coterie.foreign import reason
from coterie.models.families.fields import layer_counts, text_config
from coterie.models.files.json_files import Fields
from coterie.models.files.kinds import auto_class
from coterie.models.files.tensors import Entry


class LoadingInfo(TypedDict):
    """What `from_pretrained` tells with `output_loading_info`."""

    missing_keys: set[str]
    mismatched_keys: set[tuple[str, torch.Size, torch.Size]]


_PLAIN = frozenset(("F64", "F32", "F16", "BF16"))

_ALWAYS_PACKED = frozenset(
    ("bitsandbytes", "gptq", "awq", "auto-round", "aqlm", "vptq", "hqq", "mxfp4", "fp8", "eetq")
) | frozenset(("fbgemm_fp8", "spqr"))
"""Methods whose checkpoints never hold plain floating-point layers alone."""

_TIMES_SMALLER = 64
"""How many numbers of a model one number on disk can stand for, in the densest packing."""

_NUMBER = re.compile(r"\.(\d{1,6})\.")
_TIMES_FEWER, _FEW_LAYERS = 2, 64  # some models run a layer several times

_OF_BUFFERS = 10**11
"""Numbers in buffers (masks, positions) above which no model is built."""


def meta_model(config: PretrainedConfig, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model of a config, on the meta device: every shape, no memory.

    Raises:
        ModelError: Transformers cannot build it.
    """
    try:
        with torch.device("meta"):
            made = auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # model classes raise anything at sizes that do not go together
        raise ModelError(
            f"transformers cannot build the {config.model_type} of this config.json"
            f" ({reason(error)}):"
            " compare it with the one of the published model"
        ) from error
    return made.eval()


def check_file_size(model: PreTrainedModel, entries: Iterable[Entry], shown: str) -> None:
    """Refuse a model that is far larger than what is on disk, before memory is asked for it.

    Args:
        model: On the meta device.
        entries: All tensors on disk.
        shown: What a message calls the model.

    Raises:
        ModelError: Its config is not that of these weights.
    """
    wanted, there = model.num_parameters(), sum(entry.n_values for entry in entries)
    buffers = sum(buffer.numel() for buffer in model.buffers())
    if wanted > _TIMES_SMALLER * there or buffers > _OF_BUFFERS:
        raise ModelError(
            f"config.json of {shown!r} describes a model of {wanted + buffers:,} numbers, its files"
            f" hold {there:,}: they are not of one model, download both again"
        )


def check_counts(config: PretrainedConfig, entries: Iterable[Entry], shown: str) -> None:
    """Refuse a config of far more layers than the tensors on disk are numbered for.

    Building a model of a hundred thousand layers takes hours, even without weights.

    Args:
        config: What the class makes of config.json.
        entries: All tensors on disk.
        shown: What a message calls the model.

    Raises:
        ModelError: Names the number of layers and that of the tensors.
    """
    numbers = (int(match[1]) for entry in entries for match in _NUMBER.finditer(entry.name))
    there = max(numbers, default=0) + 1
    for name, count in layer_counts(text_config(config)).items():
        if count > _TIMES_FEWER * there + _FEW_LAYERS:
            raise ModelError(
                f"config.json of {shown!r} says {name} = {count}, its tensors are numbered up to"
                f" {there - 1}: they are not of one model, download both again"
            )


def check_quantization(raw: Fields, entries: Iterable[Entry], shown: str) -> None:
    """Refuse a `quantization_config` that was left over when the weights were unpacked.

    Args:
        raw: The content of config.json.
        entries: All tensors on disk.
        shown: What a message calls the model.

    Raises:
        ModelError: Every tensor is plain floating point, and the config says otherwise.
    """
    table = raw.get("quantization_config")
    if table is None:
        return
    if not isinstance(table, dict):
        raise ModelError(
            f"config.json of {shown!r} says quantization_config = {table!r}, which must be an"
            " object {…}: correct it, or take it out"
        )
    dtypes = sorted({entry.dtype for entry in entries})
    method = _method(table)
    if method is not None and dtypes and _PLAIN.issuperset(dtypes):
        raise ModelError(
            f"config.json of {shown!r} says that the weights are quantized ({method}), yet every"
            f" tensor on disk is plain {' or '.join(dtypes)}: take quantization_config out of"
            " config.json"
        )


def _method(table: Mapping[str, object]) -> str | None:
    """The method of a quantization_config, if its checkpoints are always packed."""
    method = str(table.get("quant_method") or "")
    if not method and (table.get("load_in_4bit") or table.get("load_in_8bit")):
        return "bitsandbytes"
    packed = str(table.get("format") or "").endswith(("-quantized", "-pack"))
    return method if method in _ALWAYS_PACKED or packed else None


def missing_tensors(folder: Path, config: PretrainedConfig) -> frozenset[str]:
    """The tensors that transformers would not find in a checkpoint, which it would make up.

    Nothing is read but headers. None are told of a quantized checkpoint, and of one that does not
    load at all: loading it says why.
    """
    if getattr(config, "quantization_config", None) is not None:
        return frozenset()
    try:
        with silent():
            loaded = auto_class(config).from_pretrained(
                folder,
                config=config,
                device_map={"": "meta"},
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception:  # whatever loading raises: it is told where the model is loaded
        return frozenset()
    return frozenset(model_and_info(loaded)[1]["missing_keys"])


def model_and_info(loaded: object) -> tuple[PreTrainedModel, LoadingInfo]:
    """A model and the names of what did not fit, as `from_pretrained` returns them together."""
    assert isinstance(loaded, tuple)
    model, info = loaded
    return model, info


def why_unfit(model: PreTrainedModel, info: LoadingInfo, entries: Iterable[Entry]) -> str | None:
    """Why loaded weights do not fill a model and what helps, in words; None where they do.

    Args:
        model: As it was loaded.
        info: What `from_pretrained` tells with `output_loading_info`.
        entries: All tensors on disk.
    """
    for name, on_disk, by_config in sorted(info["mismatched_keys"]):
        return (
            f"the tensor {name} is {list(on_disk)} on disk and {list(by_config)} by config.json:"
            " set the sizes in config.json to those of the tensors, or take the config.json that"
            " was saved with them"
        )
    missing = sorted(info["missing_keys"])
    if not missing:
        return None
    found = list(entries)
    wrapped = _piece_too_many(missing, [entry.name for entry in found])
    if wrapped is not None:
        return _told_of_piece(*wrapped)
    packed = next((entry for entry in found if entry.dtype not in _PLAIN), None)
    if packed is not None and getattr(model.config, "quantization_config", None) is None:
        return (
            f"its weights are packed ({packed.name} is {packed.dtype}) and config.json has no"
            " quantization_config that says how: put back the one they were saved with"
        )
    tied = getattr(model, "_tied_weights_keys", None) or ()
    if all(name in tied for name in missing):
        return (
            f"{missing[0]} is not on disk: where the model shares it with its embeddings, set"
            ' "tie_word_embeddings": true in config.json; else download the checkpoint again'
        )
    return None


def _piece_too_many(missing: list[str], names: list[str]) -> tuple[str, str] | None:
    """What the names on disk have in their middle or before that the model's have not."""
    wanted, pieces = set(missing), Counter[str]()
    example: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            for stop in range(start + 1, len(parts)):
                piece = ".".join(parts[start:stop])
                if ".".join(parts[:start] + parts[stop:]) in wanted and not piece.isdigit():
                    pieces[piece] += 1
                    example.setdefault(piece, name)
    if not pieces:
        return None
    piece = pieces.most_common(1)[0][0]
    return piece, example[piece]


def _told_of_piece(piece: str, example: str) -> str:
    if "base_layer" in piece or piece.startswith("base_model"):
        return (
            f"it is a LoRA model whose adapters are not merged ({example}): merge them with peft's"
            " merge_and_unload, then save_pretrained"
        )
    return (
        f"the names on disk have a part {piece!r} that the model's have not ({example}): it is from"
        " a wrapper such as DataParallel or torch.compile; save the model inside the wrapper with"
        " save_pretrained, or rename the tensors"
    )


@contextmanager
def silent() -> Iterator[None]:
    """Inside this block transformers writes no report and no progress; what it finds, we say."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
