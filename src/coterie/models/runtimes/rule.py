"""The form in which it is said how a runtime reads the layers of a model family."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PretrainedConfig

from coterie.models.families.family import layer_kinds

Kinds = tuple[object, ...]
"""What each layer is, one entry a layer; only equality counts."""


def any_number(config: PretrainedConfig, n_layers: int) -> bool:
    """A model of any number of layers is read rightly."""
    return True


def listed_kinds(config: PretrainedConfig) -> Kinds:
    """What config.json says each layer mixes tokens with."""
    return tuple(layer_kinds(config))


@dataclass(frozen=True)
class LayerRule:
    """What a runtime derives from a layer's number, where transformers reads config.json.

    Attributes:
        why: What the runtime does, as the end of a sentence that begins with its name.
        kinds: What it takes the layers of a model of so many layers to be; None where it reads them
            from the file.
        listed: What they really are, in the same words.
        counts: Whether it reads a model of so many layers rightly.
        every_kind: Whether a model without layers of one of its kinds fails to load.
        carried: Whether a converted file can say what the layers are; `export` writes that.
    """

    why: str
    kinds: Callable[[PretrainedConfig, int], Kinds] | None = None
    listed: Callable[[PretrainedConfig], Kinds] = listed_kinds
    counts: Callable[[PretrainedConfig, int], bool] = any_number
    every_kind: bool = False
    carried: bool = False
