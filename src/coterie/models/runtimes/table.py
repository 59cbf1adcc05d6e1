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


def _at_least(period: int) -> LayerRule:
    """It takes its masks from the layers of the first period."""
    why = f"fails with fewer than {period} layers, one period"
    return LayerRule(why, counts=lambda config, n_layers: n_layers >= period)


def _lite(config: PretrainedConfig, n_layers: int) -> bool:
    return config.q_lora_rank is not None or n_layers in (26, 27)


_BY_NUMBER = "tells which layers slide by their number"
_NO_KEY = f"{_BY_NUMBER}, unless the file says it"
_SCALE = "scales attention by the number of layers"

_GEMMA2 = LayerRule(_NO_KEY, _each(2, "full_attention"), carried=True)
_GEMMA3 = LayerRule(_NO_KEY, _each(6, "full_attention"), carried=True)
_SMOLLM3 = LayerRule("tells which layers rotate by their number", _each_rotary(4), _rotary)
_BOTH_KINDS = LayerRule(
    "does not load it without a layer that slides and one that does not", every_kind=True
)
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
        "gemma3_text": (LayerRule(_BY_NUMBER, _each(6, "full_attention")), _at_least(6)),
        "cohere2": (LayerRule(_BY_NUMBER, _each(4, "full_attention")), _at_least(4)),
        "exaone4": (_BOTH_KINDS,),
        "gpt_oss": (_BOTH_KINDS,),
    },
    # Its server could not be had: held to llama.cpp's rules, and to no file that says more.
    "ollama": _LLAMA_CPP,
}
"""Runtime, then model type of the decoder: what it reads off numbers of layers."""

REMARKS: dict[str, dict[str, str]] = {
    "vllm": {"cohere2": "within its sliding window, which is one token wider there, uncut too"},
    "mlx": {"gemma2": "within its sliding window: no layer slides there, uncut neither"},
}
"""Runtime, then model type: on what condition a cut is read as rightly as the whole model."""

_ATTENTION = """
cohere2 exaone4 gemma gemma2 gemma3_text glm4 granite llama mistral olmo2 phi3 qwen2 qwen3 smollm3
stablelm starcoder2
"""
_OTHERS = "falcon_h1 gpt_oss mixtral olmoe qwen3_moe"
_ALIKE = frozenset((_ATTENTION + _OTHERS).split())
SEEN: dict[str, frozenset[str]] = {
    "transformers": frozenset(),
    "vllm": _ALIKE,
    "llama.cpp": _ALIKE | {"deepseek_v2"},
    "mlx": _ALIKE,
    "ollama": frozenset(),
}
"""Runtime, then model types that were cut and run there; transformers runs them all."""
