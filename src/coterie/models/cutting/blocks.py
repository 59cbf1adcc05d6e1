"""Write a checkpoint without some attention and feed-forward blocks, in a form that loads.

Plain transformers has no config for a Llama whose layers lack parts. The heterogeneous format of
NVIDIA's Nemotron-NAS models (`nemotron-nas`, `DeciLMForCausalLM`, a `block_configs` list with
`no_op`) has: vLLM and llama.cpp read it by themselves, transformers through the small modelling
file that is written beside the weights (``trust_remote_code=True``).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from coterie.errors import CutError, ModelError
from coterie.models.cutting.config import cut_config
from coterie.models.cutting.config_file import edited, write_fields
from coterie.models.cutting.layer_names import DiskStack, find_disk_stack
from coterie.models.cutting.rope import with_plain_rope
from coterie.models.cutting.write import MAX_SHARD_BYTES, Written, carry
from coterie.models.files.own_code import MODELLING, own_code, renew_own_code
from coterie.models.files.shards import Piece, Progress, grouped, write_shards
from coterie.models.files.sources import Source
from coterie.models.runtimes.block_rules import BlockShape, gone_blocks, misread_blocks
from coterie.models.runtimes.verdicts import Verdict, block_verdicts

BLOCK_TYPE = "nemotron-nas"
"""The model type of the format."""

LLAMA_LIKE = ("llama", "mistral")
"""Model types whose blocks are those of the format."""

_ATTENTION = ("self_attn.", "input_layernorm.")
_MLP = ("mlp.", "post_attention_layernorm.")


@dataclass(frozen=True)
class BlockCut:
    """What was written, and which runtimes load it.

    Attributes:
        written: The files.
        kept: The layers of which at least one block stays.
        runtimes: What loads the checkpoint.
        verdicts: How every runtime reads it.
    """

    written: Written
    kept: tuple[int, ...]
    runtimes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]


def write_block_cut(
    source: Source,
    attention: Collection[int],
    mlp: Collection[int],
    output: Path,
    *,
    progress: Progress | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> BlockCut:
    """Write the checkpoint without some blocks of a Llama-like source into an empty folder.

    A layer that loses both its blocks goes altogether.

    Args:
        source: From `resolve`.
        attention: Layers that lose their attention block.
        mlp: Layers that lose their feed-forward block.
        output: An empty folder, or one that does not exist yet.
        progress: Called now and then with bytes written and bytes in all.
        max_shard_bytes: Tensor bytes per file.

    Raises:
        CutError: A layer that is not there, or no attention block left.
        ModelError: The model is not of a type whose blocks the format knows.
    """
    raw = source.raw_config()
    stack, kept, fields = plan_block_cut(source, attention, mlp, output)
    attention, mlp = with_gone(raw, attention, mlp)
    carried, left = carry(source.folder, output)
    renew_own_code(output)
    pieces = _pieces(source, stack, kept, attention, mlp)
    names = write_shards(grouped(pieces, max_shard_bytes), output, {"format": "pt"}, progress)
    written = Written(
        files=names,
        n_bytes=sum(piece.entry.n_bytes for piece in pieces),
        n_parameters=sum(piece.entry.n_values for piece in pieces),
        carried=carried,
        left=left,
        config_changes={name: fields[name] for name in fields if raw.get(name) != fields[name]},
    )
    shape = BlockShape.of(source.config().to_dict(), kept, attention, mlp)
    return BlockCut(written, kept, _runtimes(shape), block_verdicts(shape))


def plan_block_cut(
    source: Source, attention: Collection[int], mlp: Collection[int], output: Path
) -> tuple[DiskStack, tuple[int, ...], dict[str, object]]:
    """Write config.json and the modelling file of a cut of blocks, before any weight.

    Args:
        source: From `resolve`.
        attention: Layers that lose their attention block.
        mlp: Layers that lose their feed-forward block.
        output: An empty folder, or one that does not exist yet.

    Returns:
        The layers on disk, those that stay, and the content of config.json.

    Raises:
        CutError: A layer that is not there, or no attention block left.
        ModelError: The model is not of a type whose blocks the format knows.
    """
    raw = source.raw_config()
    check_saved_type(raw, source.name)
    config = source.config()
    stack = find_disk_stack(source.entries, config)
    # What an earlier cut of blocks took stays away.
    attention, mlp = with_gone(raw, attention, mlp)
    kept = _checked(attention, mlp, stack.n_players)
    layers = edited(raw, config, cut_config(config, kept), kept, stack.n_players)
    fields = _config(with_plain_rope(layers, config), config.to_dict(), kept, attention, mlp)
    output.mkdir(parents=True, exist_ok=True)
    write_fields(fields, output)
    (output / MODELLING).write_bytes(own_code().read_bytes())
    return stack, kept, fields


def with_gone(
    raw: Mapping[str, object], attention: Collection[int], mlp: Collection[int]
) -> tuple[frozenset[int], frozenset[int]]:
    """Layers that lack either block after a cut, those that lack it already among them.

    Args:
        raw: Config.json of the model.
        attention: Layers that lose their attention block.
        mlp: Layers that lose their feed-forward block.
    """
    return (
        frozenset(attention) | gone_blocks(raw, "attention"),
        frozenset(mlp) | gone_blocks(raw, "ffn"),
    )


def check_saved_type(raw: dict[str, object], name: str) -> None:
    """Refuse a model of which single blocks could be cut but not saved.

    Args:
        raw: Its config.json.
        name: What a message calls it.

    Raises:
        ModelError: no format holds a cut of its blocks, or it is quantized.
    """
    again = raw.get("model_type") == BLOCK_TYPE and bool(raw.get("block_configs"))
    if not (again or raw.get("model_type") in LLAMA_LIKE) or raw.get("sliding_window"):
        raise ModelError(
            f"{name!r} is a {raw.get('model_type')}: single blocks can be saved of"
            f" {' and '.join(LLAMA_LIKE)} without a sliding window only; cut whole layers instead"
        )
    if raw.get("quantization_config"):
        raise ModelError(f"{name!r} is quantized: cut its blocks before quantizing")


def saved_in_blocks(source: Source) -> bool:
    """Whether a cut of single blocks of a model can be saved at all."""
    try:
        check_saved_type(source.raw_config(), source.name)
    except ModelError:
        return False
    return True


def _checked(attention: Collection[int], mlp: Collection[int], n_players: int) -> tuple[int, ...]:
    for layer in [*attention, *mlp]:
        if not 0 <= layer < n_players:
            raise CutError(
                f"there is no layer {layer}: the model has {n_players}, numbered 0 to"
                f" {n_players - 1}"
            )
    if set(range(n_players)) <= set(attention):
        raise CutError("no attention block would be left: keep at least one")
    return tuple(i for i in range(n_players) if i not in attention or i not in mlp)


def _config(
    raw: dict[str, object],
    full: dict[str, object],
    kept: tuple[int, ...],
    attention: Collection[int],
    mlp: Collection[int],
) -> dict[str, object]:
    width, heads = int(full["hidden_size"]), int(full["num_attention_heads"])  # type: ignore
    group = heads // int(full["num_key_value_heads"])  # type: ignore[call-overload]
    multiple = 3 * int(full["intermediate_size"]) / (2 * width)  # type: ignore[call-overload]
    blocks = [
        {
            "attention": {
                "n_heads_in_group": None if layer in attention else group,
                "no_op": layer in attention,
                "replace_with_linear": False,
            },
            "ffn": {
                "ffn_mult": None if layer in mlp else multiple,
                "no_op": layer in mlp,
                "replace_with_linear": False,
            },
        }
        for layer in kept
    ]
    return raw | {
        "model_type": BLOCK_TYPE,
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_decilm.DeciLMConfig",
            "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM",
        },
        "num_hidden_layers": len(kept),
        "intermediate_size": full["intermediate_size"],
        "block_configs": blocks,
    }


def _pieces(
    source: Source,
    stack: DiskStack,
    kept: tuple[int, ...],
    attention: Collection[int],
    mlp: Collection[int],
) -> list[Piece]:
    gone = [f"{stack.path}.{layer}.{part}" for layer in attention for part in _ATTENTION]
    gone += [f"{stack.path}.{layer}.{part}" for layer in mlp for part in _MLP]
    pieces = []
    for entry in source.entries:
        name = stack.rename(entry.name, kept)
        if name is not None and not entry.name.startswith(tuple(gone)):
            pieces.append(Piece(entry, name))
    return pieces


def _runtimes(shape: BlockShape) -> tuple[str, ...]:
    titles = {
        "transformers": "transformers with trust_remote_code=True",
        "vllm": "vLLM",
        "llama.cpp": "llama.cpp",
    }
    return tuple(titles[name] for name in titles if misread_blocks(name, shape) is None)
