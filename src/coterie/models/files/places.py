"""Where a model that a user names is, and whether a folder holds one: asked without torch."""

import os
from pathlib import Path

from coterie.errors import ModelError
from coterie.foreign import expanded, is_there
from coterie.models.files.download import looks_like_hub_id
from coterie.models.files.json_files import read_config, read_json
from coterie.models.files.weights import find_weights, gguf

REFERENCE = "reference"
"""The name of the small model that ships with the package."""

ADAPTER = "adapter_config.json"
"""The file by which transformers knows a PEFT adapter."""


def reference_folder() -> Path:
    """Where the weights of the reference model are."""
    elsewhere = os.environ.get("COTERIE_REFERENCE")
    return Path(elsewhere) if elsewhere else Path(__file__).parents[1] / "reference" / "weights"


def is_local(model: str) -> bool:
    """Whether a model that is named is a folder here; another is a name of the Hub.

    Raises:
        ModelError: It is neither.
    """
    if is_there(expanded(model)):
        return True
    if looks_like_hub_id(model) and not model.lower().endswith((".gguf", ".safetensors", ".bin")):
        return False
    if model.lower().endswith(".gguf"):
        raise ModelError(gguf(model))
    raise ModelError(
        f"{model!r} is neither a folder here nor a Hub id (owner/name): check the spelling"
    )


def check_folder(folder: Path, shown: str) -> None:
    """Refuse a folder that holds no model of safetensors, saying what it holds instead.

    Raises:
        ModelError: It is no folder, holds an adapter, or has no config or no weights.
    """
    if folder.is_file():
        if folder.suffix.lower() == ".gguf":
            raise ModelError(gguf(shown))
        raise ModelError(f"{shown!r} is a file: give the folder that holds the whole checkpoint")
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder.name!r} for the model {shown!r}")
    if (folder / ADAPTER).is_file():
        raise ModelError(_adapter(folder, shown))
    if not (folder / "config.json").is_file():
        if list(folder.glob("*.gguf")):
            raise ModelError(gguf(shown))
        inner = next((file.parent.name for file in sorted(folder.glob("*/config.json"))), None)
        hint = "" if inner is None else f"; its folder {inner!r} has one: name that"
        raise ModelError(f"{shown!r} has no config.json: it is not a Hugging Face checkpoint{hint}")
    find_weights(folder, read_config(folder, shown), shown)


def _adapter(folder: Path, shown: str) -> str:
    fields = read_json(folder / ADAPTER, shown)
    base = fields.get("base_model_name_or_path") or "its base model"
    beside = [file for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_")]
    if beside:
        # With peft installed transformers applies it while loading, without peft it does not.
        return (
            f"{shown!r} holds full weights and a PEFT adapter ({ADAPTER}) in one folder: merge them"
            " (peft's merge_and_unload, then save_pretrained), or move the adapter_* files away"
        )
    return (
        f"{shown!r} is a PEFT adapter, not a model: merge it into {base} first"
        " (peft's merge_and_unload, then save_pretrained)"
    )
