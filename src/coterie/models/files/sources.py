"""From what a user types to a folder of safetensors, known to be whole and of a kind we cut."""

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from coterie.errors import ModelError
from coterie.models.files.download import download, download_config, looks_like_hub_id
from coterie.models.files.tensors import Entry, Header, hash_files, read_header

REFERENCE = "reference"
"""The name of the small model that ships with the package."""

INDEX = "model.safetensors.index.json"

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk whose files have been checked.

    Attributes:
        name: Hub id, the bare name of a local folder, or ``"reference"``.
        folder: Where the files are.
        revision: Commit of the Hub repository, or None.
        trust_remote_code: Whether the model's own Python files may be run.
    """

    name: str
    folder: Path
    revision: str | None = None
    trust_remote_code: bool = False
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The safetensors files that hold the weights, in order."""
        return weight_files(self.folder)

    @cached_property
    def headers(self) -> tuple[Header, ...]:
        """The headers of `files`, in the same order."""
        return tuple(read_header(file) for file in self.files)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every tensor of the checkpoint, in the order of the files."""
        return tuple(entry for header in self.headers for entry in header.entries)

    def config(self) -> PretrainedConfig:
        """The config of the model, a fresh object each time."""
        return AutoConfig.from_pretrained(
            self.folder, trust_remote_code=self.trust_remote_code, local_files_only=True
        )

    def fingerprint(self) -> str:
        """What identifies the weights: the Hub commit, or a hash of the config and weight files."""
        if self.revision is not None:
            return f"{self.name}@{self.revision}"
        if "hash" not in self._known:
            self._known["hash"] = hash_files([*self.files, self.folder / "config.json"])
        return f"sha256:{self._known['hash']}"


def resolve(model: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Source:
    """Find the model a user named and check its files, before anything is computed.

    Args:
        model: A Hub id, a local folder, or ``"reference"``.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Allow the model's own Python files to run.

    Raises:
        ModelError: It cannot be found, read, or is not a decoder-only causal language model.
    """
    if model == REFERENCE:
        source = Source(REFERENCE, reference_folder(), None, trust_remote_code)
    elif _is_local(model):
        folder = Path(model).expanduser().resolve()
        source = Source(folder.name, folder, None, trust_remote_code)
    else:
        folder, commit = download(model, revision)
        source = Source(model, folder, commit, trust_remote_code)
    check_folder(source.folder, model)
    _check_index(source)
    _check_kind(source)
    return source


def resolve_config(
    model: str, revision: str | None = None, *, trust_remote_code: bool = False
) -> PretrainedConfig:
    """The config of the model a user named, without its weights where they are not here yet.

    Args:
        model: A name of the Hub, or a folder.
        revision: Branch, tag or commit; None is the newest.
        trust_remote_code: Whether Python files of the checkpoint may be run.

    Raises:
        ModelError: As in `resolve`.
    """
    if model == REFERENCE or _is_local(model):
        return resolve(model, revision, trust_remote_code=trust_remote_code).config()
    folder, commit = download_config(model, revision)
    source = Source(model, folder, commit, trust_remote_code)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{model!r} has no config.json: it is not a Hugging Face checkpoint")
    _check_kind(source)
    return source.config()


def reference_folder() -> Path:
    """Where the weights of the reference model are."""
    elsewhere = os.environ.get("COTERIE_REFERENCE")
    return Path(elsewhere) if elsewhere else Path(__file__).parents[1] / "reference" / "weights"


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint: those its index names, or all there are."""
    index = folder / INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return tuple(folder / name for name in names)
    single = folder / "model.safetensors"
    return (single,) if single.is_file() else tuple(sorted(folder.glob("*.safetensors")))


def _is_local(model: str) -> bool:
    if Path(model).expanduser().exists():
        return True
    if looks_like_hub_id(model) and not model.lower().endswith((".gguf", ".safetensors", ".bin")):
        return False
    if model.lower().endswith(".gguf"):
        raise ModelError(_gguf(model))
    raise ModelError(
        f"{model!r} is neither a folder here nor a Hub id (owner/name): check the spelling"
    )


def check_folder(folder: Path, shown: str) -> None:
    """Refuse a folder that holds no model of safetensors, saying what it holds instead."""
    if folder.is_file():
        if folder.suffix.lower() == ".gguf":
            raise ModelError(_gguf(shown))
        raise ModelError(f"{shown!r} is a file: give the folder that holds the whole checkpoint")
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder.name!r} for the model {shown!r}")
    if (folder / "adapter_config.json").is_file() and not _weights_beside_adapter(folder):
        raise ModelError(_adapter(folder, shown))
    if not (folder / "config.json").is_file():
        if list(folder.glob("*.gguf")):
            raise ModelError(_gguf(shown))
        raise ModelError(f"{shown!r} has no config.json: it is not a Hugging Face checkpoint")
    if not weight_files(folder):
        if any(list(folder.glob(pattern)) for pattern in _PICKLES):
            raise ModelError(
                f"{shown!r} holds its weights as pickles only, which can run code when opened:"
                " convert them to safetensors once, with transformers' save_pretrained"
            )
        if list(folder.glob("*.gguf")):
            raise ModelError(_gguf(shown))
        raise ModelError(f"{shown!r} holds no .safetensors file: its weights are missing")


def _weights_beside_adapter(folder: Path) -> list[Path]:
    """Weight files of a folder that are not those of a PEFT adapter."""
    return [
        file for file in folder.glob("*.safetensors") if file.name != "adapter_model.safetensors"
    ]


def _check_index(source: Source) -> None:
    missing = [file.name for file in source.files if not file.is_file()]
    if missing:
        raise ModelError(f"{source.name!r} lacks {missing[0]}, which its index names: download it")
    present = {entry.name for entry in source.entries}  # truncated files are found here
    index = source.folder / INDEX
    if not index.is_file():
        return
    named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    absent = sorted(named - present)
    if absent:
        raise ModelError(
            f"{source.name!r} lacks the tensor {absent[0]}, which its index names"
            f" ({len(absent)} in all): download the weights again"
        )


def _check_kind(source: Source) -> None:
    raw = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    model_type = raw.get("model_type")
    if "auto_map" in raw and not source.trust_remote_code and not _known_type(model_type):
        raise ModelError(
            f"{source.name!r} (model type {model_type!r}) needs Python code of its own: read it,"
            " then allow it with --trust-remote-code"
        )
    if not _known_type(model_type) and find_spec("fla") is not None:
        import_module("fla.models")  # flash-linear-attention registers RWKV-7 and its like
    try:
        config = source.config()
    except Exception as error:  # whatever a config class raises, the user needs one line
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the config.json of {source.name!r} cannot be used: {reason}") from error
    architectures = raw.get("architectures") or []
    if not is_causal(config, architectures):
        raise ModelError(
            f"{source.name!r} is a {(architectures or [model_type])[0]}, not a decoder-only causal"
            " language model: only those have a stack of layers to cut"
        )


def is_causal(config: PretrainedConfig, architectures: list[str]) -> bool:
    """Whether this is a decoder-only causal language model, alone or inside a vision wrapper."""
    if getattr(config, "is_encoder_decoder", False) and not getattr(config, "is_decoder", False):
        return False
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return True
    if is_registered(config):
        return True
    if not _known_type(config.model_type):
        return False
    if getattr(config, "is_decoder", None) is False and _is_encoder_class(config.model_type):
        return False
    classes = _class_names(config.model_type)
    return not architectures or any(name in classes for name in architectures)


def is_registered(config: PretrainedConfig) -> bool:
    """Whether another library registered this config with `AutoModelForCausalLM`."""
    ours = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return not ours and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


def _is_encoder_class(model_type: str) -> bool:
    # Encoders that can also run as decoders need to be told so by `is_decoder`.
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _known_type(model_type: str | None) -> bool:
    return (
        model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        or model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    )


def _class_names(model_type: str) -> set[str]:
    names: set[str] = set()
    for table in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES):
        found = table.get(model_type, ())
        names.update([found] if isinstance(found, str) else found)
    return names


def _gguf(shown: str) -> str:
    return (
        f"{shown!r} is a GGUF file, whose weights are packed for another runtime: cut the"
        " safetensors checkpoint it was made from, then convert the result"
    )


def _adapter(folder: Path, shown: str) -> str:
    fields = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = fields.get("base_model_name_or_path") or "its base model"
    return (
        f"{shown!r} is a PEFT adapter, not a model: merge it into {base} first"
        " (peft's merge_and_unload, then save_pretrained)"
    )
