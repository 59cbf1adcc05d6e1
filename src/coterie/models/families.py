"""Which family a model belongs to, and how to tell Coterie about a new one, in a few lines of data.

Most types need no entry: the stack is found by counting, every layer is a free player, and the
generic rules of `config_cut` rewrite the config.

    register_family("my_type", Family(stack="decoder.blocks", lock_first="it embeds the positions"))
"""

from transformers import PretrainedConfig

from coterie.models.family import Family
from coterie.models.family_rules import TABLE

__all__ = ["Family", "family_of", "register_family"]

_registered: dict[str, Family] = {}


def register_family(model_type: str, family: Family) -> None:
    """Tell Coterie about a model type (`model_type` of the text config); the last one wins."""
    _registered[model_type] = family


def family_of(config: PretrainedConfig) -> Family:
    """The entry of this config's model type; an empty one if nothing is particular about it."""
    known = _registered.get(config.model_type) or TABLE.get(config.model_type)
    return known or Family()
