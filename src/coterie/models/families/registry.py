"""Which family a model belongs to, and how to tell Coterie about a new one, in a few lines of data.

Most types need no entry: the stack is found by counting, every layer is a free player, and the
generic rules of `models.cutting.config` rewrite the config.

    register_family("my_type", Family(stack="decoder.blocks", lock_first="it embeds the positions"))
"""

from transformers import PretrainedConfig

from coterie.errors import CutError
from coterie.models.families.family import Family, Kept, Locks
from coterie.models.families.fields import text_config
from coterie.models.families.table import TABLE

__all__ = ["Family", "check_kept", "family_of", "locks_of", "register_family"]

_registered: dict[str, Family] = {}


def register_family(model_type: str, family: Family) -> None:
    """Tell Coterie about a model type (`model_type` of the text config); the last one wins."""
    _registered[model_type] = family


def family_of(config: PretrainedConfig) -> Family:
    """The entry of this config's model type; an empty one if nothing is particular about it."""
    known = _registered.get(config.model_type) or TABLE.get(config.model_type)
    return known or Family()


def locks_of(config: PretrainedConfig, n_players: int) -> Locks:
    """The players of a model that must stay, each with the reason, in order.

    Args:
        config: Of the whole model: a vision wrapper locks the layers its images need.
        n_players: Number of decoder layers.
    """
    text = text_config(config)
    locks = family_of(text).locks(text, n_players) | _image_layers(config)
    return {player: reason for player, reason in sorted(locks.items()) if player < n_players}


def check_kept(config: PretrainedConfig, kept: Kept, n_players: int) -> None:
    """Refuse a cut that takes a locked player.

    Args:
        config: Of the whole model.
        kept: Layers that stay, 0-based, ascending.
        n_players: Layers of the whole model.

    Raises:
        CutError: Names the first locked player that is not kept, and why it must stay.
    """
    text = text_config(config)
    whole = family_of(text).whole
    # Some cuts take locked layers together in a way that still makes a model.
    if whole is not None and whole(text, kept):
        return
    for player, reason in locks_of(config, n_players).items():
        if player not in kept:
            raise CutError(f"layer {player} is locked: {reason}")


def _image_layers(config: PretrainedConfig) -> Locks:
    """Layers that take in images, which no text can judge."""
    crossing = getattr(text_config(config), "cross_attention_layers", None) or ()
    locks = dict.fromkeys(crossing, "it only reads images, so text cannot tell its worth")
    vision = getattr(config, "vision_config", None)
    stacked = getattr(vision, "deepstack_visual_indexes", None) or ()
    # The i-th set of image features is added after the i-th decoder layer.
    return locks | dict.fromkeys(range(len(stacked)), "image features are added after it")
