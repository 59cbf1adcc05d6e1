"""Which kind of model a config describes: is it one we cut, and which class loads it."""

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

_ONLY_AS_WRAPPER = frozenset(["emu3"])
"""Types of which transformers' causal class cannot load a whole checkpoint, only the wrapper's."""

AutoClass = type[AutoModelForCausalLM] | type[AutoModelForImageTextToText]


def auto_class(config: PretrainedConfig) -> AutoClass:
    """The class that loads this model: causal LM, or its vision-language wrapper."""
    if config.model_type in _ONLY_AS_WRAPPER:
        return AutoModelForImageTextToText
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or is_registered(config)
    return AutoModelForCausalLM if remote or known else AutoModelForImageTextToText


def is_causal(config: PretrainedConfig, architectures: list[str]) -> bool:
    """Whether this is a decoder-only causal language model, alone or inside a vision wrapper."""
    if getattr(config, "is_encoder_decoder", False) and not getattr(config, "is_decoder", False):
        return False
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return True
    if is_registered(config):
        return True
    if not is_known_type(config.model_type):
        return False
    # Encoders that can also run as decoders need to be told so by `is_decoder`.
    encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if getattr(config, "is_decoder", None) is False and encoder:
        return False
    classes = _class_names(config.model_type)
    return not architectures or any(name in classes for name in architectures)


def described(config: PretrainedConfig, architectures: list[str]) -> str:
    """What a config says the model is: its class, and the fields that say something else."""
    kind = architectures[0] if architectures else config.model_type
    also = "" if kind == config.model_type else f" of model type {config.model_type!r}"
    if getattr(config, "is_encoder_decoder", False):
        also += ", with is_encoder_decoder = true"
    return f"{kind}{also}"


def is_registered(config: PretrainedConfig) -> bool:
    """Whether another library registered this config with `AutoModelForCausalLM`."""
    ours = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return not ours and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


def is_known_type(model_type: object) -> bool:
    """Whether transformers itself has this model type as one that writes text."""
    return isinstance(model_type, str) and (
        model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        or model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    )


def _class_names(model_type: str) -> set[str]:
    names: set[str] = set()
    for table in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES):
        found = table.get(model_type, ())
        names.update([found] if isinstance(found, str) else found)
    return names
