"""Rewrite a model's config for fewer layers: every field that speaks of single layers.

Four kinds of field do: a count of all layers, a list with one entry per layer, a list of layer
numbers, and a count of the layers before (or after) some border. Periods ("every fourth layer") are
spelt out. What only one family knows is that family's `Family.config_rule`.
"""

import copy
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from transformers import PretrainedConfig

from coterie.errors import CutError
from coterie.models.families.fields import COUNT_FIELDS, layer_counts, text_config
from coterie.models.families.registry import family_of

INDEX_LISTS = frozenset(
    (
        "attn_layer_indices",
        "cross_attention_layers",
        "dense_layers",
        "full_attn_idxs",
        "global_layers",
        "hybrid_layer_ids",
        "local_layer_ids",
        "mlp_only_layers",
        "moe_layer_indices",
        "moe_layers",
    )
)
"""Fields that list layer numbers."""

ONE_BASED_LISTS = frozenset(("full_attn_layers", "kda_layers", "ple_layer_ids"))
"""Fields that list layer numbers counted from one."""

LAYERS_PER_LAYER = frozenset(["kv_source_layers"])
"""Fields that name, for every layer, a layer."""

PREFIX_COUNTS = frozenset(
    ["first_k_dense_replace", "num_dense_layers", "max_window_layers", "moe_layer_start_index"]
)
"""Fields that count the layers before a border."""

SUFFIX_COUNTS = frozenset(["num_kv_shared_layers"])
"""Fields that count the layers after a border."""

_COUNT = re.compile(
    r"(text_|language_|llm_|decoder_|model_)?(n|num|total)?_?(hidden_|decoder_|transformer_|model_)?"
    r"(layers?|blocks?)"
)
"""Names of fields that count all layers, in any file; a value that is another number is not one."""

_NUMBERS = re.compile(r"(layer|block)s?_?(ids?|idxs?|ind(ex|exes|ices))$|_(layers|blocks|idxs)$")
"""Names of fields that list layer numbers, if that is what they hold."""

_OF_LAYERS = re.compile(r"layer|block|pattern")
"""Names of fields that may hold something for each layer, outside of the decoder's own part."""

_OTHER_LAYERS = re.compile(
    r"mtp|nextn|draft|vision|visual|image|video|audio|speech|encoder|tower|feature|select|proj"
    r"|deepstack|norm|size|dim"
)
"""Parts of names that speak of other layers than the decoder's, or of no layers."""

_NOT_PER_LAYER = ("token", "rope_parameters", "rope_scaling", "mrope", "architectures", "kernel")
"""Parts of names whose lists are never one entry per layer, whatever their length."""

Fields = dict[str, object]


def checked_config(kept: Sequence[int], n_players: int) -> tuple[int, ...]:
    """The kept players, ascending.

    Raises:
        CutError: None is kept, one is out of range, or one is named twice.
    """
    players = sorted(int(player) for player in kept)
    if not players:
        raise CutError(f"no layer of {n_players} would be left: keep at least one")
    outside = [player for player in players if not 0 <= player < n_players]
    if outside:
        raise CutError(
            f"there is no layer {outside[0]}: the model has {n_players}, numbered 0 to"
            f" {n_players - 1}"
        )
    twice = [player for player, following in pairwise(players) if player == following]
    if twice:
        raise CutError(f"layer {twice[0]} is named twice")
    return tuple(players)


def cut_config(
    config: PretrainedConfig, kept: Sequence[int], n_players: int | None = None
) -> PretrainedConfig:
    """The config of the model that keeps only some players; the one given is not changed.

    Args:
        config: Of the whole model.
        kept: The players that stay.
        n_players: Number of players now; by default what the config says.
    """
    new = copy.deepcopy(config)
    text = text_config(new)
    n_players = n_players or next(iter(layer_counts(text).values()))
    players = checked_config(kept, n_players)
    for name, value in cut_fields(dict(vars(text)), players, n_players).items():
        setattr(text, name, value)
    _renumber_overrides(text, players)
    family_of(text).config_rule(text, text_config(config), players)
    return new


def cut_fields(fields: Fields, kept: tuple[int, ...], n_players: int) -> Fields:
    """Only those fields that change when the layers outside ``kept`` go, with their new values.

    Args:
        fields: Of the whole config, as plain data.
        kept: Layers that stay, 0-based, ascending.
        n_players: Layers of the whole model.
    """
    changed: Fields = {}
    for name, value in fields.items():
        new = _cut_field(name, value, kept, n_players)
        if new is not None and new != value:
            changed[name] = new
    for name in COUNT_FIELDS:
        if fields.get(name) == n_players:
            changed[name] = len(kept)
    return changed | _spell_out_sparse_step(fields, kept)


def _cut_field(name: str, value: object, kept: tuple[int, ...], n_players: int) -> object:
    if isinstance(value, bool) or name.startswith("_"):
        return None
    if name in ONE_BASED_LISTS and isinstance(value, list | tuple):
        return [kept.index(player - 1) + 1 for player in value if player - 1 in kept]
    lists = name in INDEX_LISTS or _lists_numbers(name, value, n_players)
    if lists and isinstance(value, list | tuple):
        return [kept.index(player) for player in value if player in kept]
    if isinstance(value, str):
        return _cut_pattern(name, value, kept, n_players)
    if name in LAYERS_PER_LAYER and isinstance(value, list | tuple):
        return [kept.index(value[player]) for player in kept if value[player] in kept]
    if name in PREFIX_COUNTS and isinstance(value, int):
        return int(np.searchsorted(kept, value))
    if name in SUFFIX_COUNTS and isinstance(value, int):
        return sum(player >= n_players - value for player in kept)
    if name == "moe_layer_end_index" and isinstance(value, int):
        return value if value < 0 else int(np.searchsorted(kept, value, side="right")) - 1
    per_layer = isinstance(value, list | tuple) and len(value) == n_players
    if per_layer and not any(part in name for part in _NOT_PER_LAYER):
        return type(value)(value[player] for player in kept)  # type: ignore[call-arg, index]
    return None


def is_layer_count(name: str) -> bool:
    """Whether a field of this name may count all decoder layers."""
    return _COUNT.fullmatch(name) is not None


def follow_by_name(name: str, value: object, kept: tuple[int, ...], n_players: int) -> object:
    """The new value of a field, in whatever part of a config, whose name speaks of layers.

    Args:
        name: Of the field.
        value: As it is.
        kept: The layers that stay.
        n_players: Number of layers before.

    Returns:
        The value for the cut model; None if the field stays as it is.
    """
    if is_layer_count(name) and type(value) is int:
        return len(kept) if value == n_players else None
    known = (INDEX_LISTS, ONE_BASED_LISTS, LAYERS_PER_LAYER, PREFIX_COUNTS, SUFFIX_COUNTS)
    if any(name in names for names in known) or name == "moe_layer_end_index":
        return _cut_field(name, value, kept, n_players)
    if _OF_LAYERS.search(name) and not _OTHER_LAYERS.search(name):
        return _cut_field(name, value, kept, n_players)
    return None


def _lists_numbers(name: str, value: object, n_players: int) -> bool:
    """Whether a field that no table names lists layer numbers, by its name and what it holds."""
    if not isinstance(value, list | tuple) or not value or not _NUMBERS.search(name):
        return False
    if _OTHER_LAYERS.search(name) or not all(type(number) is int for number in value):
        return False
    rising = all(first < second for first, second in pairwise(value))
    # Of as many entries as there are layers, only 0, 1, 2 … can be numbers and not kinds.
    return rising and value[0] >= 0 and value[-1] < n_players and n_players > 2


def _cut_pattern(name: str, value: str, kept: tuple[int, ...], n_players: int) -> str | None:
    """A text with one letter, or one word between commas, for each layer."""
    if "pattern" not in name or _OTHER_LAYERS.search(name):
        return None
    words = value.split(",")
    if len(words) == n_players:
        return ",".join(words[player] for player in kept)
    return "".join(value[player] for player in kept) if len(value) == n_players else None


def _renumber_overrides(config: PretrainedConfig, kept: tuple[int, ...]) -> None:
    """What transformers keeps under `per_layer_config`: fields of single layers, by number."""
    overrides = getattr(getattr(config, "_heterogeneity_spec", None), "per_layer_overrides", None)
    if overrides:
        renumbered = {kept.index(i): fields for i, fields in overrides.items() if i in kept}
        overrides.clear()
        overrides.update(renumbered)


def _spell_out_sparse_step(fields: Fields, kept: tuple[int, ...]) -> Fields:
    """Experts in every n-th layer become experts everywhere but in the layers that are named."""
    step = fields.get("decoder_sparse_step")
    if not isinstance(step, int) or step <= 1:
        return {}
    dense = set(fields.get("mlp_only_layers") or ())  # type: ignore[call-overload]
    named = [i for i, player in enumerate(kept) if player in dense or (player + 1) % step]
    return {"decoder_sparse_step": 1, "mlp_only_layers": named}


def config_changes(before: PretrainedConfig, after: PretrainedConfig) -> Fields:
    """The fields in which two configs differ, nested as in the JSON file, with their new values."""
    return _changes(before.to_dict(), after.to_dict())


def _changes(before: Fields, after: Fields) -> Fields:
    changed: Fields = {}
    for name, new in after.items():
        old = before.get(name)
        if old != new:
            sub = is_sub_config(old) and is_sub_config(new)
            changed[name] = _changes(old, new) if sub else new  # type: ignore[arg-type]
    for name, old in before.items():
        if name not in after:
            changed[name] = {} if isinstance(old, dict) else None
    return changed


def is_sub_config(value: object) -> bool:
    """Whether a field holds a config of its own, to be changed field by field."""
    return isinstance(value, dict) and "model_type" in value
