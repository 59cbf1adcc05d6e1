"""Write a cut checkpoint straight from the source's files: bytes are copied, no model is built.

The tensors of the kept layers are renamed on the way; the few that a family rewrites pass through
torch one at a time. The dtype on disk stays what it was, whatever the search ran in.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PretrainedConfig

from coterie.models.cutting.config import checked_config, cut_config
from coterie.models.cutting.config_file import differences, edited, read_as_file, write_fields
from coterie.models.cutting.layer_names import DiskStack, find_disk_stack
from coterie.models.cutting.quantization import renumber_quantization
from coterie.models.cutting.rope import with_plain_rope
from coterie.models.cutting.structure import compare_structure
from coterie.models.families.family import Read
from coterie.models.families.fields import text_config
from coterie.models.families.registry import check_kept, family_of
from coterie.models.files.carried import carried_files
from coterie.models.files.fit import check_file_size, meta_model
from coterie.models.files.json_files import Fields
from coterie.models.files.own_code import renew_own_code
from coterie.models.files.shards import Piece, Progress, grouped, write_shards
from coterie.models.files.sources import Source
from coterie.models.files.tensors import Entry, read_tensor
from coterie.models.files.weights import INDEX

MAX_SHARD_BYTES = 5 * 10**9
"""Size above which a new file is begun: what most Hub checkpoints use."""

_WEIGHT_SUFFIXES = frozenset(
    (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
)
_WRITTEN_ANEW = frozenset(("config.json", "README.md", "coterie.json", INDEX))


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
        ModelError: The source's layers cannot be told from their names, or its quantization cannot
            be cut.
        VerificationError: The new config would build some kept layer differently.
    """
    new = plan_cut(source, kept)
    output.mkdir(parents=True, exist_ok=True)
    write_fields(new.fields, output)
    carried, left = carry(source.folder, output)
    renew_own_code(output)
    pieces = _pieces(source, new.stack, new.kept, text_config(new.config))
    shards = grouped(pieces, max_shard_bytes)
    metadata = _metadata(source, new.stack, new.kept)
    names = write_shards(shards, output, metadata, progress)
    n_values = sum(piece.entry.n_values for piece in pieces)
    n_bytes = sum(piece.entry.n_bytes for piece in pieces)
    changes = differences(source.raw_config(), new.fields)
    return Written(
        files=names,
        n_bytes=n_bytes,
        n_parameters=n_values,
        carried=carried,
        left=left,
        config_changes=changes,
    )


@dataclass(frozen=True)
class CutPlan:
    """A cut that is known to be possible, before anything is written.

    Attributes:
        config: Of the whole model.
        stack: Its layers on disk.
        kept: The layers that stay, ascending.
        fields: The content of the new config.json.
    """

    config: PretrainedConfig
    stack: DiskStack
    kept: tuple[int, ...]
    fields: Fields


def plan_cut(source: Source, kept: Sequence[int]) -> CutPlan:
    """Make the new config.json, and prove without weights that it builds the kept layers.

    Args:
        source: From `resolve`.
        kept: The players that stay.

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
    whole = meta_model(config, trust_remote_code=source.trust_remote_code)
    check_file_size(whole, source.entries, source.name)
    after = cut_config(config, players, stack.n_players)
    fields = edited(source.raw_config(), config, after, players, stack.n_players)
    if isinstance(fields.get("quantization_config"), dict):
        list_name = stack.path.rpartition(".")[2]
        fields["quantization_config"] = renumber_quantization(
            fields["quantization_config"], list_name, lambda layer: stack.renumber(layer, players)
        )
    fields = with_plain_rope(fields, config)
    new = read_as_file(fields, config)
    compare_structure(whole, meta_model(new, trust_remote_code=source.trust_remote_code), players)
    return CutPlan(config, stack, players, fields)


def carry(folder: Path, output: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy what belongs to a checkpoint beside weights: tokenizer, templates, licences, own code.

    Returns:
        The files that were copied, and those beside them that were not, by name.
    """
    carried, left = carried_and_left(folder)
    for name in carried:
        (output / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / name, output / name)
    return carried, left


def carried_and_left(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What `carry` would copy of a folder, and what it would leave there."""
    carried = carried_files(folder)
    parents = {name.partition("/")[0] for name in carried}
    left = [
        file.name
        for file in sorted(folder.iterdir())
        if file.name not in parents
        and file.name not in _WRITTEN_ANEW
        and file.suffix not in _WEIGHT_SUFFIXES
        and not file.name.endswith(".index.json")
    ]
    return carried, tuple(left)


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
            new = family.tensor_rule(entry.name, read, config, kept)
            pieces.append(_rewritten(entry, name, new))
        else:
            pieces.append(Piece(entry, name))
    return pieces


def _rewritten(entry: Entry, name: str, tensor: torch.Tensor) -> Piece:
    new = tensor.contiguous()
    data = new.reshape(-1).view(torch.uint8).numpy().tobytes()
    return Piece(replace(entry, shape=tuple(new.shape), stop=entry.start + len(data)), name, data)


def _reader(entries: tuple[Entry, ...]) -> Read:
    by_name = {entry.name: entry for entry in entries}
    return lambda name: read_tensor(by_name[name])


def _metadata(source: Source, stack: DiskStack, kept: tuple[int, ...]) -> dict[str, str]:
    """The metadata of all the source's files together, with the tensors it names renamed."""
    metadata: dict[str, str] = {}
    for header in source.headers:
        for key, value in header.metadata.items():
            name = stack.rename(key, kept)
            if name is not None:
                metadata[name] = stack.rename_inside(value, kept)
    return metadata or {"format": "pt"}
