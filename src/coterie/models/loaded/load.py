"""Load a model and its tokenizer from a checked source, on a device, in a dtype with a reason."""

import logging
from time import perf_counter

import torch
import transformers
from torch import nn
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from coterie.errors import CoterieError, ModelError, UserError
from coterie.foreign import foreign, is_of_machine, reason
from coterie.models.files.fit import check_file_size, meta_model, model_and_info, silent, why_unfit
from coterie.models.files.json_files import read_json
from coterie.models.files.kinds import auto_class
from coterie.models.files.sources import Source, resolve

log = logging.getLogger("coterie.models")

__all__ = [
    "Source",
    "attention_of",
    "auto_class",
    "default_dtype",
    "load_model",
    "load_tokenizer",
    "pick_device",
    "pick_devices",
    "resolve",
]


def load_model(
    source: Source, *, dtype: torch.dtype | None, device: torch.device | str
) -> PreTrainedModel:
    """Load a model for evaluation, every weight accounted for.

    Args:
        source: From `resolve`.
        dtype: Of the floating-point weights; None keeps the checkpoint's own.
        device: Where to put it.

    Raises:
        ModelError: The weights do not fill the model, so parts of it would be random.
    """
    began = perf_counter()
    model = _filled_model(source, dtype)
    if getattr(model.config, "rescale_every", 0):
        # RWKV halves weights in place when it is evaluated, to keep half precision in range.
        model.config.rescale_every = 0
    nn.Module.to(model, device)
    kind, seconds = f"{type(model).__name__} in {model.dtype}", perf_counter() - began
    log.info("loaded %s, %s, on %s in %.1f s", source.name, kind, device, seconds)
    return model.eval()


def _filled_model(source: Source, dtype: torch.dtype | None) -> PreTrainedModel:
    """The model as transformers loads it, refused unless the files hold every weight of it."""
    try:
        config = source.config()
        whole = meta_model(config, trust_remote_code=source.trust_remote_code)
        check_file_size(whole, source.entries, source.name)
        with silent():
            loaded = auto_class(config).from_pretrained(
                source.folder,
                dtype="auto" if dtype is None else dtype,
                trust_remote_code=source.trust_remote_code,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are refused below, in words
                output_loading_info=True,
            )
    except CoterieError:
        raise
    except Exception as error:  # model code and quantizers raise anything; the user needs one line
        if is_of_machine(error):
            raise
        # transformers reads this file along with the weights, and names neither.
        beside = source.folder / "generation_config.json"
        if beside.is_file():
            read_json(beside, source.name)
        raise ModelError(f"the weights of {source.name!r} do not load: {reason(error)}") from error
    model, info = model_and_info(loaded)
    unfit = why_unfit(model, info, source.entries)
    if unfit is not None:
        raise ModelError(f"the weights of {source.name!r} do not fit its config.json: {unfit}")
    # transformers only warns where it fills a tensor with random numbers.
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{source.name!r} lacks {len(missing)} of its tensors, such as {missing[0]}: these"
            " would be random numbers; download the checkpoint again"
        )
    return model


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """Load the tokenizer that lies beside the weights.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    if not source.trust_remote_code and _has_code_for_its_tokenizer(source):
        raise ModelError(
            f"the tokenizer of {source.name!r} needs Python code of its own: read it, then allow it"
            " with --trust-remote-code"
        )
    refused, way_out = "has no tokenizer that loads", "put its tokenizer files beside the weights"
    with foreign(f"{source.name!r} {refused}", way_out=way_out, kind=ModelError):
        return AutoTokenizer.from_pretrained(
            source.folder, trust_remote_code=source.trust_remote_code, local_files_only=True
        )


def _has_code_for_its_tokenizer(source: Source) -> bool:
    file = source.folder / "tokenizer_config.json"
    if not file.is_file():
        return False
    fields = read_json(file, source.name)
    table, kind = fields.get("auto_map"), fields.get("tokenizer_class")
    if not isinstance(table, dict) or "AutoTokenizer" not in table:
        return False
    # A class that transformers has needs no other code, whatever else is offered.
    return not (isinstance(kind, str) and hasattr(transformers, kind))


def attention_of(model: PreTrainedModel) -> str:
    """The attention implementation the model runs with, such as ``"sdpa"`` or ``"eager"``."""
    return str(getattr(model.config, "_attn_implementation", None) or "eager")


def pick_device(asked: str = "auto") -> torch.device:
    """The device a user asked for; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: The device is unknown or not there.
    """
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise UserError(
            f"device {asked!r} is unknown: give one of auto, cpu, cuda, cuda:0, mps"
        ) from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise UserError(f"device {asked!r} is not on this machine: --device auto picks one that is")
    return device


def pick_devices(asked: str) -> tuple[torch.device, ...]:
    """The devices a user asked for, one or more of one type: ``"cuda:0,cuda:1"``, ``"cuda:all"``.

    Raises:
        UserError: One is unknown or not there, is named twice, or is of another type.
    """
    parts = asked.split(",")
    if asked == "cuda:all":
        parts = [f"cuda:{index}" for index in range(max(1, torch.cuda.device_count()))]
    found = [pick_device(part.strip()) for part in parts]
    types = sorted({device.type for device in found})
    if len(types) > 1:
        raise UserError(
            f"--device {asked} mixes {' and '.join(types)}, which do not compute alike: name"
            " devices of one type"
        )
    # The CPU may be named several times: copies there share its memory.
    places = [device.index or 0 for device in found]
    if types != ["cpu"] and len(set(places)) < len(places):
        raise UserError(f"--device {asked} names one twice: a device holds one copy of the model")
    return tuple(found)


def default_dtype(device: torch.device | str) -> tuple[torch.dtype, str]:
    """The dtype to search in on a device, and why: bfloat16 where the hardware multiplies it."""
    device = torch.device(device)
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return torch.bfloat16, "this GPU has bfloat16 tensor cores"
        return torch.float32, "this GPU is older than bfloat16 (compute capability below 8.0)"
    if device.type == "mps":
        return torch.float32, "bfloat16 saves no time on MPS"
    if torch.cpu._is_amx_tile_supported():
        return torch.bfloat16, "this CPU multiplies bfloat16 in hardware (AMX)"
    if torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16, "this CPU multiplies bfloat16 in hardware (AVX512-BF16)"
    return torch.float32, "this CPU only emulates bfloat16"
