"""Rotary positions told twice: under `rope_parameters`, and where older readers look for them.

transformers 5 keeps all of it in `rope_parameters`. Its releases before, MLX and older converters
read `rope_theta` and its like at the top, and silently take a default where it is not there.
"""

import copy

from transformers import PretrainedConfig

from coterie.models.cutting.config_file import read_as_file
from coterie.models.files.json_files import Fields

_TOGETHER = (("rope_theta", "rope_local_base_freq"), ("partial_rotary_factor",), ("rope_scaling",))
"""Fields that are told together, or not at all."""

_APART = ("rope_theta", "partial_rotary_factor")
"""What stands at the top by itself, not within ``rope_scaling``."""


def with_plain_rope(fields: Fields, like: PretrainedConfig) -> Fields:
    """The content of config.json with rotary fields at the top too, where that changes no reading.

    Args:
        fields: The content of config.json.
        like: A config of the class that reads it.
    """
    if not any("rope_parameters" in node for node in _nodes(fields)):
        return fields
    before = read_as_file(fields, like).to_dict()
    # One after the other: a class may refuse or misunderstand some of it.
    for names in _TOGETHER:
        told = copy.deepcopy(fields)
        for node in _nodes(told):
            node |= {name: value for name, value in _plain(node).items() if name in names}
        try:
            after = read_as_file(told, like).to_dict()
        except Exception:  # whatever a class raises, it does not take these
            continue
        if _reads_alike(before, after):
            fields = told
    return fields


def _nodes(fields: Fields) -> list[Fields]:
    """The parts of a config.json that tell of rotary positions."""
    parts = [fields, *(value for value in fields.values() if isinstance(value, dict))]
    return [part for part in parts if isinstance(part.get("rope_parameters"), dict)]


def _plain(node: Fields) -> Fields:
    """What older readers look for at the top of one part, of what is not there yet."""
    parameters = node["rope_parameters"]
    assert isinstance(parameters, dict)
    found: Fields = {}
    # Gemma 3 has other positions in layers that slide.
    kinds = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
    for kind, name in kinds.items():
        inner = parameters.get(kind)
        if isinstance(inner, dict) and "rope_theta" in inner:
            found[name] = inner["rope_theta"]
    if "rope_theta" in parameters:
        found["rope_theta"] = parameters["rope_theta"]
        if parameters.get("rope_type", "default") != "default":
            found["rope_scaling"] = {k: v for k, v in parameters.items() if k not in _APART}
    if "partial_rotary_factor" in parameters:
        found["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    return {name: value for name, value in found.items() if name not in node}


def _reads_alike(before: object, after: object) -> bool:
    """Whether one config says all that another says, whatever it says beside."""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(name in after and _reads_alike(before[name], after[name]) for name in before)
    return before == after
