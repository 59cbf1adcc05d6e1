"""Write a cut checkpoint straight from the source's files: bytes are copied, no model is built.

The tensors of the kept layers are renamed on the way; the few that a family rewrites pass through
torch one at a time. The dtype on disk stays what it was, whatever the search ran in.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PretrainedConfig

from coterie.models.cutting.config import checked_config, config_changes, cut_config, is_sub_config
from coterie.models.cutting.layer_names import DiskStack, find_disk_stack
from coterie.models.cutting.quantization import renumber_quantization
from coterie.models.cutting.structure import check_structure
from coterie.models.families.family import Read
from coterie.models.families.fields import text_config
from coterie.models.families.registry import Family, check_kept, family_of
from coterie.models.files.shards import Piece, Progress, grouped, write_shards
from coterie.models.files.sources import INDEX, Source
from coterie.models.files.tensors import Entry

MAX_SHARD_BYTES = 5 * 10**9
"""Size above which a new file is begun: what most Hub checkpoints use."""

_WEIGHT_SUFFIXES = frozenset(
    (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
)
_NOT_CARRIED = frozenset(("config.json", "README.md", "coterie.json", INDEX))
_BYTES_OF_FILES_CARRIED = 200 * 2**20


@dataclass(frozen=True)
class Written:
    """What a cut checkpoint on disk consists of.

    Attributes:
        files: Weight files, by name, in order.
        n_bytes: Bytes of all tensors.
        n_parameters: Entries of all tensors; packed formats count as packed.
        carried: Other files copied from the source, by name.
        left: Files of the source that were not copied, by name.
        config_changes: Fields of config.json that the cut changed, with their new values.
    """

    files: tuple[str, ...]
    n_bytes: int
    n_parameters: int
    carried: tuple[str, ...]
    left: tuple[str, ...]
    config_changes: dict[str, object]


def write_cut(
    source: Source,
    kept: Sequence[int],
    output: Path,
    *,
    progress: Progress | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Written:
    """Write the checkpoint that keeps only some layers of a source into an empty folder.

    Args:
        source: From `resolve`.
        kept: The players that stay.
        output: An empty folder, or one that does not exist yet. Give a temporary one and rename it
            when all is checked: after an error it is left half-written.
        progress: Called now and then with bytes written and bytes in all.
        max_shard_bytes: Tensor bytes per file, unless one tensor alone is larger.

    Raises:
        CutError: An index out of range, named twice, or of a locked layer.
        ModelError: The source's layers cannot be told from their names, or its quantisation cannot
            be cut.
        VerificationError: The new config would build some kept layer differently.
    """
    config = source.config()
    stack = find_disk_stack(source.entries, config)
    players = checked_config(kept, stack.n_players)
    check_kept(config, players, stack.n_players)
    check_structure(config, players, trust_remote_code=source.trust_remote_code)
    new_config = cut_config(config, players, stack.n_players)
    output.mkdir(parents=True, exist_ok=True)
    fields, changes = _new_fields(source, config, new_config, stack, players)
    (output / "config.json").write_text(
        json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    carried, left = carry(source.folder, output)
    pieces = _pieces(source, stack, players, text_config(config))
    shards = grouped(pieces, max_shard_bytes)
    metadata = _metadata(source, stack, players)
    names = write_shards(shards, output, metadata, progress)
    n_values = sum(piece.entry.n_values for piece in pieces)
    n_bytes = sum(piece.entry.n_bytes for piece in pieces)
    return Written(names, n_bytes, n_values, carried, left, changes)


def _new_fields(
    source: Source,
    config: PretrainedConfig,
    new_config: PretrainedConfig,
    stack: DiskStack,
    kept: tuple[int, ...],
) -> tuple[dict[str, object], dict[str, object]]:
    """The source's config.json with what the cut changes, and those changes alone."""
    raw = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    changes = config_changes(config, new_config)
    quantization = raw.get("quantization_config")
    if quantization is not None:
        list_name = stack.path.rpartition(".")[2]
        renamed = renumber_quantization(
            quantization, list_name, lambda layer: stack.renumber(layer, kept)
        )
        changes.pop("quantization_config", None)
        if renamed != quantization:
            changes["quantization_config"] = renamed
    return _merged(raw, changes), changes


def _merged(old: dict[str, object], changes: dict[str, object]) -> dict[str, object]:
    merged = dict(old)
    for name, new in changes.items():
        before = merged.get(name)
        nested = is_sub_config(before) and isinstance(new, dict)
        merged[name] = _merged(before, new) if nested else new  # type: ignore[arg-type]
    return merged


def carry(folder: Path, output: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy what is neither weights nor rewritten: tokenizer, templates, licences, code."""
    carried, left = [], []
    for file in sorted(folder.iterdir()):
        small = file.is_file() and file.stat().st_size <= _BYTES_OF_FILES_CARRIED
        weights = file.suffix in _WEIGHT_SUFFIXES or file.name.endswith(".index.json")
        if small and not weights and file.name not in _NOT_CARRIED and file.name[0] != ".":
            shutil.copyfile(file, output / file.name)
            carried.append(file.name)
        elif not weights and file.name not in _NOT_CARRIED:
            left.append(file.name)
    return tuple(carried), tuple(left)


def _pieces(
    source: Source, stack: DiskStack, kept: tuple[int, ...], config: PretrainedConfig
) -> list[Piece]:
    family, read = family_of(config), _reader(source.entries)
    pieces = []
    for entry in source.entries:
        name = stack.rename(entry.name, kept)
        if name is None:
            continue
        if family.rewritten and re.search(family.rewritten, entry.name):
            pieces.append(_rewritten(entry, name, family, read, config, kept))
        else:
            pieces.append(Piece(entry, name))
    return pieces


def _rewritten(
    entry: Entry,
    name: str,
    family: Family,
    read: Read,
    config: PretrainedConfig,
    kept: tuple[int, ...],
) -> Piece:
    new = family.tensor_rule(entry.name, read, config, kept).contiguous()
    data = new.reshape(-1).view(torch.uint8).numpy().tobytes()
    return Piece(replace(entry, shape=tuple(new.shape), stop=entry.start + len(data)), name, data)


def _reader(entries: tuple[Entry, ...]) -> Read:
    files = {entry.name: entry.file for entry in entries}

    def read(name: str) -> Tensor:
        with safe_open(files[name], framework="pt") as file:
            return file.get_tensor(name)

    return read


def _metadata(source: Source, stack: DiskStack, kept: tuple[int, ...]) -> dict[str, str]:
    """The metadata of all the source's files together, with the tensors it names renamed."""
    metadata: dict[str, str] = {}
    for header in source.headers:
        for key, value in header.metadata.items():
            name = stack.rename(key, kept)
            if name is not None:
                metadata[name] = stack.rename_inside(value, kept)
    return metadata or {"format": "pt"}
