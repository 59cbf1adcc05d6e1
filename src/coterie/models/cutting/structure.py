"""Compare two models layer by layer without their weights: would a cut build the same layers?"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from coterie.errors import VerificationError
from coterie.models.cutting.config import cut_config
from coterie.models.families.fields import text_config
from coterie.models.families.registry import family_of
from coterie.models.files.fit import meta_model
from coterie.models.loaded.stack import find_stack

__all__ = [
    "Difference",
    "check_structure",
    "compare_structure",
    "meta_model",
    "structural_differences",
]

_INDEX_NAMES = frozenset(
    ("layer_idx", "layer_id", "layer_number", "layer_index", "block_idx", "idx", "index", "layer")
)


@dataclass(frozen=True)
class Difference:
    """One field in which a kept layer would not be what it was."""

    layer: int
    field: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"layer {self.layer}: {self.field} was {self.before}, would be {self.after}"


def structural_differences(
    whole: PreTrainedModel, cut: PreTrainedModel, kept: Sequence[int]
) -> list[Difference]:
    """Every difference in kind, shape or plain attribute between a kept layer and its original.

    The two models may be on the meta device. Layer numbers are expected to differ.

    Args:
        whole: The whole model, without weights.
        cut: The cut one, without weights.
        kept: Layers that stay, 0-based, ascending.
    """
    stack = find_stack(whole)
    before, after = stack.layers, tuple(cut.get_submodule(stack.path).children())
    if len(after) != len(kept):
        return [Difference(-1, "number of layers", str(len(kept)), str(len(after)))]
    settled = family_of(text_config(whole.config)).settled
    differences = []
    # A cache that counts the layers with attention counts anew after the cut.
    counted = _counts(before) & _counts(after)
    for new, old in enumerate(kept):
        was = _description(before[old], old, counted)
        now = _description(after[new], new, counted)
        for field in sorted(was.keys() | now.keys()):
            if was.get(field) != now.get(field) and field.rpartition(".")[2] not in settled:
                left, right = was.get(field, "absent"), now.get(field, "absent")
                differences.append(Difference(old, field, left, right))
    return differences


def check_structure(
    config: PretrainedConfig, kept: Sequence[int], *, trust_remote_code: bool = False
) -> None:
    """Refuse a cut after which some kept layer would be built differently from what it was.

    Args:
        config: Of the whole model.
        kept: Layers that stay, 0-based, ascending.
        trust_remote_code: Whether Python files of the checkpoint may be run.

    Raises:
        VerificationError: Names the first layer and field.
    """
    whole = meta_model(config, trust_remote_code=trust_remote_code)
    new = cut_config(config, kept, find_stack(whole).n_players)
    compare_structure(whole, meta_model(new, trust_remote_code=trust_remote_code), kept)


def compare_structure(whole: PreTrainedModel, cut: PreTrainedModel, kept: Sequence[int]) -> None:
    """Hold the model of a cut config against the whole one.

    Args:
        whole: The whole model; it may be on the meta device, and the other too.
        cut: The model of the new config.
        kept: The layers that stay.

    Raises:
        VerificationError: Some kept layer is built differently; names the first layer and field.
    """
    differences = structural_differences(whole, cut, kept)
    if differences:
        raise VerificationError(
            f"{whole.config.model_type} cannot be cut this way: {differences[0]}"
            f" ({len(differences)} differences in all); nothing was written"
        )


def _counts(layers: Sequence[nn.Module]) -> frozenset[str]:
    """Attributes that number the layers that have them, without a gap, from 0."""
    found: dict[str, list[int]] = {}
    for layer in layers:
        for name, module in layer.named_modules():
            for attribute in _INDEX_NAMES & vars(module).keys():
                value = getattr(module, attribute)
                if isinstance(value, int):
                    found.setdefault(f"{name}.{attribute}".lstrip("."), []).append(value)
    return frozenset(name for name, seen in found.items() if seen == list(range(len(seen))))


def _description(layer: nn.Module, number: int, counted: frozenset[str]) -> dict[str, str]:
    described: dict[str, str] = {}
    for name, module in layer.named_modules():
        described[f"{name or 'layer'} (class)"] = type(module).__name__
        for attribute, value in vars(module).items():
            plain = isinstance(value, bool | int | float | str) or value is None
            place = f"{name}.{attribute}".lstrip(".")
            is_number = attribute in _INDEX_NAMES and (value == number or place in counted)
            if plain and not is_number and not attribute.startswith("_"):
                text = f"{value:.9g}" if isinstance(value, float) else repr(value)
                described[place] = text
    for name, parameter in layer.named_parameters(remove_duplicate=False):
        described[f"{name} (shape)"] = str(tuple(parameter.shape))
    return described
