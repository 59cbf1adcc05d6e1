"""Rewrite a model's config for fewer layers: every field that speaks of single layers.

Four kinds of field do: a count of all layers, a list with one entry per layer, a list of layer
numbers, and a count of the layers before (or after) some border. Periods ("every fourth layer") are
spelt out. What only one family knows is that family's `Family.config_rule`.
"""

import copy
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

LAYERS_PER_LAYER = frozenset(["kv_source_layers"])
"""Fields that name, for every layer, a layer."""

PREFIX_COUNTS = frozenset(
    ["first_k_dense_replace", "num_dense_layers", "max_window_layers", "moe_layer_start_index"]
)
"""Fields that count the layers before a border."""

SUFFIX_COUNTS = frozenset(["num_kv_shared_layers"])
"""Fields that count the layers after a border."""

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
    if name in INDEX_LISTS and isinstance(value, list | tuple):
        return [kept.index(player) for player in value if player in kept]
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
