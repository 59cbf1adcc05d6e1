"""The families about which something is particular, as one table, with the rules it names."""

import math

import torch
from torch import Tensor
from transformers import PretrainedConfig

from coterie.models.families.family import Family, Kept, Locks, Read


def _number_in(name: str) -> int:
    """The layer number in a tensor's name: the first number there."""
    return next(int(part) for part in name.split(".") if part.isdigit())


# Gemma 3n, Gemma 4: late layers reuse keys and values; every layer has a slice of one embedding.


def _lock_producers(config: PretrainedConfig, n_players: int) -> Locks:
    n_shared = int(getattr(config, "num_kv_shared_layers", 0) or 0)
    if not n_shared:
        return {}
    own = list(config.layer_types)[: n_players - n_shared]
    last_of_kind = {kind: player for player, kind in enumerate(own)}
    return dict.fromkeys(last_of_kind.values(), "later layers reuse its keys and values")


def _slice_per_layer(name: str, read: Read, config: PretrainedConfig, kept: Kept) -> Tensor:
    tensor = read(name)
    n_players, rows = config.num_hidden_layers, list(kept)
    if "embed_tokens_per_layer" in name:  # (vocabulary, layers * width)
        return tensor.unflatten(1, (n_players, -1))[:, rows].flatten(1)
    return tensor.unflatten(0, (n_players, -1))[rows].flatten(0, 1)  # (layers * width, hidden)


_PER_LAYER = r"embed_tokens_per_layer\.weight|per_layer_model_projection\.weight"
_STORING = frozenset(["store_full_length_kv", "kv_shared_layer_index"])
_FULL_LAST = "the last layer must attend to all tokens"

_GEMMA3N = Family(
    lock_rule=_lock_producers, rewritten=_PER_LAYER, tensor_rule=_slice_per_layer, settled=_STORING
)
_GEMMA4 = Family(
    lock_rule=_lock_producers,
    lock_last=_FULL_LAST,
    rewritten=_PER_LAYER,
    tensor_rule=_slice_per_layer,
    settled=_STORING,
)


# GPT-2 may divide attention scores by the layer's number, counted from one: fold it into Q.


def _fold_inverse_index(name: str, read: Read, config: PretrainedConfig, kept: Kept) -> Tensor:
    tensor = read(name)
    layer = _number_in(name)
    if not getattr(config, "scale_attn_by_inverse_layer_idx", False) or layer not in kept:
        return tensor
    folded = tensor.clone()
    folded[..., : config.hidden_size] *= (kept.index(layer) + 1) / (layer + 1)
    return folded


# Diff-Llama subtracts a second attention map, times a constant that grows with the layer's number.


def _lambda_init(layer: int) -> float:
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


def _fold_lambda(name: str, read: Read, config: PretrainedConfig, kept: Kept) -> Tensor:
    """Keep exp(q1·k1) + lambda_init, and (1 - lambda_init) times the output, what they were."""
    tensor = read(name)
    layer = _number_in(name)
    if layer not in kept or kept.index(layer) == layer:
        return tensor
    old, new = _lambda_init(layer), _lambda_init(kept.index(layer))
    if name.endswith("o_proj.weight"):
        return (tensor.double() * (1 - old) / (1 - new)).to(tensor.dtype)
    key = read(name.replace("lambda_q1", "lambda_k1")).double()
    query = tensor.double()
    product = query @ key
    wanted = torch.log(product.exp() + old - new)
    return (query + key * (wanted - product) / (key @ key)).to(tensor.dtype)


def _scale_depth(new: PretrainedConfig, whole: PretrainedConfig, kept: Kept) -> None:
    # MiniCPM3 scales every branch by scale_depth / sqrt(number of layers).
    new.scale_depth = whole.scale_depth * math.sqrt(len(kept) / whole.num_hidden_layers)


def _spell_out_blocks(new: PretrainedConfig, whole: PretrainedConfig, kept: Kept) -> None:
    # RecurrentGemma repeats a short pattern; a pattern as long as the model is never repeated.
    pattern = list(whole.block_types)
    new.block_types = [pattern[player % len(pattern)] for player in kept]


def _spell_out_attention(new: PretrainedConfig, whole: PretrainedConfig, kept: Kept) -> None:
    # GPT-Neo: pairs of a pattern and how often it is repeated.
    new.attention_types = [[[whole.attention_layers[player]], 1] for player in kept]


def _spell_out_pattern(new: PretrainedConfig, whole: PretrainedConfig, kept: Kept) -> None:
    # EXAONE 4: the letters of a period, which MLX reads in place of `layer_types`.
    if isinstance(whole.sliding_window_pattern, str):
        letters = {"sliding_attention": "L", "full_attention": "G"}
        new.sliding_window_pattern = "".join(letters[kind] for kind in new.layer_types)


def _count_sections(new: PretrainedConfig, whole: PretrainedConfig, kept: Kept) -> None:
    # Dory runs its middle section several times.
    first, second = whole.n_input_layers, whole.num_hidden_layers - whole.n_output_layers
    new.n_input_layers = sum(player < first for player in kept)
    new.n_output_layers = sum(player >= second for player in kept)
    new.n_recurrent_layers = len(kept) - new.n_input_layers - new.n_output_layers


def _one_based_ids(new: PretrainedConfig, whole: PretrainedConfig, kept: Kept) -> None:
    chosen = list(whole.ple_layer_ids or ())
    new.ple_layer_ids = [i + 1 for i, player in enumerate(kept) if player + 1 in chosen]


# Jamba's config knows two periods and two offsets, no list: a cut must fit some such pattern.


def _jamba_pattern(config: PretrainedConfig, kept: Kept) -> tuple[int, int, int, int] | None:
    attention = [config.layers_block_type[player] == "attention" for player in kept]
    experts = [config.layers_num_experts[player] > 1 for player in kept]
    first, second = _period_of(attention), _period_of(experts)
    return None if first is None or second is None else (*first, *second)


def _period_of(marked: list[bool]) -> tuple[int, int] | None:
    for period in range(1, len(marked) + 1):
        for offset in range(period):
            if marked == [i % period == offset for i in range(len(marked))]:
                return period, offset
    return None


def _jamba_fits(config: PretrainedConfig, kept: Kept) -> bool:
    return _jamba_pattern(config, kept) is not None


def _jamba_periods(new: PretrainedConfig, whole: PretrainedConfig, kept: Kept) -> None:
    pattern = _jamba_pattern(whole, kept)
    if pattern is not None:
        new.attn_layer_period, new.attn_layer_offset = pattern[:2]
        new.expert_layer_period, new.expert_layer_offset = pattern[2:]


_ZAMBA = Family(
    lock_rule=lambda config, n_players: {
        i: "its attention block is shared with other layers"
        for i, kind in enumerate(config.layers_block_type)
        if kind == "hybrid"
    }
)

_RESIDUAL_BLOCKS = "layers add to a residual that starts anew at fixed layer numbers"

TABLE: dict[str, Family] = {
    "beam": Family(refusal="residual scales are fixed functions of the layer's number"),
    "big_bird": Family(settled=frozenset(["seed"])),  # of block-sparse attention, not in decoders
    "diffllama": Family(
        rewritten=r"lambda_q1$|o_proj\.weight$",
        tensor_rule=_fold_lambda,
        settled=frozenset(["lambda_init"]),
    ),
    "dory": Family(config_rule=_count_sections),
    "exaone4": Family(
        config_rule=_spell_out_pattern, settled=frozenset(["sliding_window_pattern"])
    ),
    "gemma3n_text": _GEMMA3N,
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4,
    "gpt2": Family(
        rewritten=r"attn\.c_attn\.(weight|bias)$",
        tensor_rule=_fold_inverse_index,
        settled=frozenset(["scaling"]),
    ),
    "gpt_neo": Family(config_rule=_spell_out_attention),
    "gpt_neox_japanese": Family(lock_last="only the last layer has the attention bias"),
    "inkling2_loop_text": Family(refusal=_RESIDUAL_BLOCKS),
    "inkling2_text": Family(refusal=_RESIDUAL_BLOCKS),
    "jamba": Family(
        refusal="Jamba's config knows only periods: whole periods can be cut, by coterie cut",
        whole=_jamba_fits,
        config_rule=_jamba_periods,
    ),
    # Two attentions a layer, numbered through: a cut halves, doubles and adds as it should.
    "longcat_flash": Family(settled=frozenset(["layer_idx"])),
    "minimax": Family(refusal="linear attention decays by the layer's number over all layers"),
    "minicpm3": Family(config_rule=_scale_depth),
    "modernbert-decoder": Family(lock_first="it has no norm of its own before attention"),
    "qwen4_exp_text": Family(config_rule=_one_based_ids),
    "recurrent_gemma": Family(config_rule=_spell_out_blocks),
    "reformer": Family(refusal="its layers carry two streams and are reversed in pairs"),
    "rwkv": Family(lock_first="it holds the norm of the embeddings"),
    "rwkv7": Family(
        lock_first="it holds the norm of the embeddings and makes what later layers mix in",
        settled=frozenset(["num_hidden_layers"]),  # only scales the first random weights
    ),
    "xlm": Family(refusal="the parts of its layers lie in several lists"),
    "zamba": _ZAMBA,
    "zamba2": _ZAMBA,
    "zaya": Family(lock_first="it is built without what later layers add to it"),
}
"""What is known about each type; a type that is not here needs nothing said."""
