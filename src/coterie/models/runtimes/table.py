"""What was seen of how runtimes read the layers of families, as data; see `docs/runtimes.md`.

A family that is in `SEEN` and has no rule takes any cut. `RULES` are the exceptions. A family that
is in neither was not run there.
"""

import math
from collections.abc import Callable

from transformers import PretrainedConfig

from coterie.models.runtimes.rule import Kinds, LayerRule, listed_kinds


def _rotary(config: PretrainedConfig) -> Kinds:
    return tuple(bool(rotates) for rotates in config.no_rope_layers)


def _each(
    period: int, other: str, often: str = "sliding_attention", place: int | None = None
) -> Callable[[PretrainedConfig, int], Kinds]:
    """Of every so many layers one is of another kind: the last, or the one at a place."""
    at = period - 1 if place is None else place
    return lambda config, n: tuple(other if i % period == at else often for i in range(n))


def _each_rotary(period: int) -> Callable[[PretrainedConfig, int], Kinds]:
    return lambda config, n: tuple((i + 1) % period != 0 for i in range(n))


def _scale_holds(large: int) -> Callable[[PretrainedConfig, int], bool]:
    """Attention is scaled by the model's width at one number of layers, by the head's elsewhere."""

    def holds(config: PretrainedConfig, n_layers: int) -> bool:
        head = config.head_dim
        taken = config.hidden_size / config.num_attention_heads if n_layers == large else head
        return math.isclose(config.query_pre_attn_scalar, taken)

    return holds


def _slides_at_64(config: PretrainedConfig, n_layers: int) -> bool:
    return n_layers == 64 or "sliding_attention" not in listed_kinds(config)


def _lite(config: PretrainedConfig, n_layers: int) -> bool:
    return config.q_lora_rank is not None or n_layers in (26, 27)


_BY_NUMBER = "tells which layers slide by their number"
_NO_KEY = f"{_BY_NUMBER}, unless the file says it"
_SCALE = "scales attention by the number of layers"

_GEMMA2 = LayerRule(_NO_KEY, _each(2, "full_attention"), carried=True)
_GEMMA3 = LayerRule(_NO_KEY, _each(6, "full_attention"), carried=True)
_SMOLLM3 = LayerRule("tells which layers rotate by their number", _each_rotary(4), _rotary)
_LLAMA_CPP: dict[str, tuple[LayerRule, ...]] = {
    "gemma2": (_GEMMA2, LayerRule(_SCALE, counts=_scale_holds(46))),
    "gemma3_text": (_GEMMA3, LayerRule(_SCALE, counts=_scale_holds(62))),
    "cohere2": (LayerRule(_NO_KEY, _each(4, "full_attention"), carried=True),),
    "gpt_oss": (LayerRule(_NO_KEY, _each(2, "full_attention"), carried=True),),
    "smollm3": (_SMOLLM3,),
    "exaone4": (LayerRule("lets layers slide in models of 64 layers alone", counts=_slides_at_64),),
    "deepseek_v2": (LayerRule("tells DeepSeek-V2-Lite by its 26 or 27 layers", counts=_lite),),
}

RULES: dict[str, dict[str, tuple[LayerRule, ...]]] = {
    "transformers": {},
    "vllm": {"gpt_oss": (LayerRule(_BY_NUMBER, _each(2, "full_attention")),)},
    "llama.cpp": _LLAMA_CPP,
    "mlx": {
        "gemma2": (LayerRule(_BY_NUMBER, _each(2, "full_attention")),),
        "gemma3_text": (LayerRule(_BY_NUMBER, _each(6, "full_attention")),),
        "cohere2": (LayerRule(_BY_NUMBER, _each(4, "full_attention")),),
        "smollm3": (_SMOLLM3,),
    },
    # Its server could not be had: held to llama.cpp's rules, and to no file that says more.
    "ollama": _LLAMA_CPP,
}
"""Runtime, then model type of the decoder: what it reads off numbers of layers."""

_ALIKE = "llama mistral qwen2 qwen3 olmo2 granite falcon_h1"
_IN_LLAMA_CPP = "olmoe stablelm starcoder2 gemma glm4 mixtral phi3"
SEEN: dict[str, frozenset[str]] = {
    "transformers": frozenset(),
    "vllm": frozenset(_ALIKE.split()) | {"qwen3_moe", "gpt_oss"},
    "llama.cpp": frozenset([*_ALIKE.split(), *_IN_LLAMA_CPP.split(), "qwen3_moe", *_LLAMA_CPP]),
    "mlx": frozenset(["llama", *RULES["mlx"]]),
    "ollama": frozenset(),
}
"""Runtime, then model types that were cut and run there; transformers runs them all."""
