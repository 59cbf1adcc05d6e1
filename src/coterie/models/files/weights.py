"""Which files hold the weights of a checkpoint: those that transformers would load, no others.

Transformers asks in this order: the file that config.json names under `transformers_weights`,
`model.safetensors`, the files that `model.safetensors.index.json` names. Whatever else lies in the
folder (an index beside the single file, shards without an index, variants, pickles) it never reads.
Of each file it takes every tensor, whether the index names it or not; of two tensors of one name,
that of the later file.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from coterie.errors import ModelError
from coterie.models.files.json_files import Fields, read_json

SINGLE = "model.safetensors"
"""Name of the file of a checkpoint that is one file."""

INDEX = "model.safetensors.index.json"
"""Name of the file that says in which of several files each tensor is."""

EXPLICIT = "transformers_weights"
"""Field of config.json that names another file than these."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors$")


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a checkpoint's weights.

    Attributes:
        files: Safetensors files, in the order in which they are loaded; they need not be there.
        index: The file that names them, if there are several.
    """

    files: tuple[Path, ...]
    index: Path | None = None


def find_weights(folder: Path, config: Fields, shown: str) -> WeightFiles:
    """The files that transformers would load the weights of a folder from.

    Args:
        folder: Of the checkpoint.
        config: Its config.json.
        shown: What a message calls the model.

    Raises:
        ModelError: There are none, saying what there is instead; or an index cannot be used.
    """
    names = sorted(entry.name for entry in folder.iterdir())
    if any(_DISTRIBUTED.match(name) for name in names):
        raise ModelError(
            f"{shown!r} is a checkpoint in pieces of a distributed run (shard-00001-…): save it"
            " whole, with save_pretrained of the gathered model"
        )
    explicit = config.get(EXPLICIT)
    if explicit is not None:
        return _explicit(folder, explicit, shown)
    if (folder / SINGLE).is_file():
        return WeightFiles((folder / SINGLE,))
    if (folder / INDEX).is_file():
        return _indexed(folder / INDEX, folder, shown)
    for name in (SINGLE, INDEX):
        _check_is_file(folder / name, shown)
    raise ModelError(_what_is_there(names, shown))


def named_tensors(index: Path, shown: str) -> dict[str, str]:
    """The tensors that an index names, each with the file that it says holds it.

    Raises:
        ModelError: The index cannot be read or has no such table.
    """
    fields = read_json(index, shown)
    table = fields.get("weight_map")
    for name, kind in (("weight_map", table), ("metadata", fields.get("metadata"))):
        if not isinstance(kind, dict):
            raise ModelError(
                f"{index.name} of {shown!r} has no table {name!r}, without which transformers does"
                " not load it: download it again"
            )
    assert isinstance(table, dict)
    if not table or not all(isinstance(file, str) for file in table.values()):
        raise ModelError(
            f"{index.name} of {shown!r} must name a file for each tensor in 'weight_map', and does"
            " not: download it again"
        )
    return table


def plain_names(config: Fields) -> Fields:
    """A config.json for weights under the usual names: without the field that names others."""
    return {name: value for name, value in config.items() if name != EXPLICIT}


def _explicit(folder: Path, name: object, shown: str) -> WeightFiles:
    if not isinstance(name, str) or not name.endswith((".safetensors", ".safetensors.index.json")):
        raise ModelError(
            f"config.json of {shown!r} says {EXPLICIT} = {name!r}, which must name a safetensors"
            " file or its index: correct it, or take it out"
        )
    file = _inside(folder, name, "config.json", shown)
    return _indexed(file, folder, shown) if name.endswith(".json") else WeightFiles((file,))


def _indexed(index: Path, folder: Path, shown: str) -> WeightFiles:
    names = sorted(set(named_tensors(index, shown).values()))
    other = next((name for name in names if not name.endswith(".safetensors")), None)
    if other is not None:
        raise ModelError(
            f"{index.name} of {shown!r} names {other!r}, which is no safetensors file: save the"
            " model with save_pretrained once more"
        )
    return WeightFiles(tuple(_inside(folder, name, index.name, shown) for name in names), index)


def _inside(folder: Path, name: str, told_by: str, shown: str) -> Path:
    # Files are written under these names too: one that leads elsewhere must never be followed.
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ModelError(
            f"{told_by} of {shown!r} names {name!r}, a file outside of the folder of the model:"
            " correct it, or download it again"
        )
    return folder / name


def _check_is_file(file: Path, shown: str) -> None:
    """Refuse what bears the name of the weights and is no file."""
    if file.is_symlink():
        raise ModelError(
            f"{file.name} of {shown!r} is a link to {file.readlink().name}, which is not there:"
            " fetch the model again, or put the file itself there"
        )
    if file.exists():
        raise ModelError(f"{file.name} of {shown!r} is a folder, not a file: download it again")


def _what_is_there(names: list[str], shown: str) -> str:
    """Why a folder holds no weights for transformers, from the names in it."""
    tensors = [name for name in names if name.endswith(".safetensors")]
    several = [name for name in tensors if _OF_SEVERAL.search(name)]
    others = [name for name in tensors if name != "adapter_model.safetensors"]
    if several:
        return (
            f"{shown!r} holds {several[0]} but no {INDEX}, so transformers does not know which"
            " files are the model: put the index there, or download the checkpoint again"
        )
    if others:
        return (
            f"{shown!r} holds {others[0]} and no {SINGLE}, the only name that transformers loads:"
            f" rename it to {SINGLE} if those are the weights"
        )
    if any(name.endswith(_PICKLES) for name in names):
        return (
            f"{shown!r} holds its weights as pickles only, which can run code when opened: convert"
            " them to safetensors once, with transformers' save_pretrained"
        )
    if any(name.endswith(".gguf") for name in names):
        return gguf(shown)
    return f"{shown!r} holds no .safetensors file: its weights are missing"


def gguf(shown: str) -> str:
    """Why a GGUF file is not a model to cut, and what is."""
    return (
        f"{shown!r} is a GGUF file, whose weights are packed for another runtime: cut the"
        " safetensors checkpoint it was made from, then convert the result"
    )
