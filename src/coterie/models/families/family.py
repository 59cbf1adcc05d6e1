"""The form in which a model family says what is particular about it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from transformers import PretrainedConfig

Kept = tuple[int, ...]
"""The players that stay, ascending."""

Locks = dict[int, str]
"""Players that must stay, each with the reason."""

Read = Callable[[str], Tensor]
"""Gives any tensor of the whole model by its name there."""


def no_locks(config: PretrainedConfig, n_players: int) -> Locks:
    """Every player may be cut."""
    return {}


def no_config_rule(new: PretrainedConfig, whole: PretrainedConfig, kept: Kept) -> None:
    """Change nothing beyond the generic rules.

    Args:
        new: Fields of the cut config.
        whole: Fields of the whole one.
        kept: Layers that stay, 0-based, ascending.
    """


def no_tensor_rule(name: str, read: Read, config: PretrainedConfig, kept: Kept) -> Tensor:
    """The tensor stays as it is.

    Args:
        name: Of the tensor.
        read: Reads it.
        config: Of the whole model.
        kept: Layers that stay, 0-based, ascending.
    """
    return read(name)


@dataclass(frozen=True)
class Family:
    """What Coterie has to be told about a model type because it cannot see it.

    Attributes:
        stack: Dotted path of the list of layers; None finds it by counting.
        lock_rule: The players that must stay, from the text config and the number of players.
        lock_first: Why player 0 must stay, or None.
        lock_last: Why the last player must stay, or None.
        refusal: Why no single layer of this type can be cut, or None.
        whole: For a refused type: whether nevertheless these kept players make a model.
        config_rule: Changes the new text config further, in place, after the generic rules; it is
            also given the text config of the whole model and the kept players.
        rewritten: Pattern (searched) of the names of tensors that a cut changes, not only renames.
        tensor_rule: The new value of such a tensor, from its OLD name, a reader of the whole
            model's tensors, the text config of the whole model and the kept players.
        settled: Names of layer attributes that may differ after a cut, because `tensor_rule` makes
            up for it or because they do not change what the layer computes.
    """

    stack: str | None = None
    lock_rule: Callable[[PretrainedConfig, int], Locks] = no_locks
    lock_first: str | None = None
    lock_last: str | None = None
    refusal: str | None = None
    whole: Callable[[PretrainedConfig, Kept], bool] | None = None
    config_rule: Callable[[PretrainedConfig, PretrainedConfig, Kept], None] = no_config_rule
    rewritten: str | None = None
    tensor_rule: Callable[[str, Read, PretrainedConfig, Kept], Tensor] = no_tensor_rule
    settled: frozenset[str] = frozenset()

    def locks(self, config: PretrainedConfig, n_players: int) -> Locks:
        """The players that must stay, each with the reason, in order."""
        locks = dict(self.lock_rule(config, n_players))
        # A rule's own reason, which says more, stands before the general one.
        if self.lock_first:
            locks.setdefault(0, self.lock_first)
        if self.lock_last:
            locks.setdefault(n_players - 1, self.lock_last)
        if self.refusal:
            locks |= {player: self.refusal for player in range(n_players) if player not in locks}
        # What a family says wins over what is read off the config.
        for rule in GENERIC_LOCKS:
            locks = rule(config, n_players) | locks
        return dict(sorted(locks.items()))


def layer_kinds(config: PretrainedConfig) -> list[str]:
    """What each layer mixes tokens with, as the config says; empty where all are alike."""
    for name in ("layers_block_type", "layer_types"):
        kinds = getattr(config, name, None)
        if isinstance(kinds, list | tuple) and kinds:
            return [str(kind) for kind in kinds]
    return []


def one_attention_layer(config: PretrainedConfig, n_players: int) -> Locks:
    """Of a hybrid, the first attention layer: the cache counts its positions there."""
    kinds = layer_kinds(config)
    # Only hybrids: where all layers attend, any of them can carry the cache.
    attentive = [i for i, kind in enumerate(kinds) if _has_attention(kind)]
    if not attentive or len(attentive) == len(kinds):
        return {}
    return {attentive[0]: "the cache counts positions on an attention layer, and this is the first"}


def _has_attention(kind: str) -> bool:
    return kind == "hybrid" or ("attention" in kind and "linear" not in kind)


def shared_indexers(config: PretrainedConfig, n_players: int) -> Locks:
    """Of sparse attention whose choice of tokens is shared, the layers that choose for others."""
    # A "shared" layer after a "full" one uses the tokens that the full one chose.
    kinds = list(getattr(config, "indexer_types", None) or ())
    return {
        i: "the next layer attends to the tokens that this one chooses"
        for i in range(len(kinds) - 1)
        if kinds[i] == "full" and kinds[i + 1] == "shared"
    }


def sources_of_keys(config: PretrainedConfig, n_players: int) -> Locks:
    """Of attention whose keys and values are shared, the layers that make them for others."""
    sources = list(getattr(config, "kv_source_layers", None) or ())
    shared = {source for player, source in enumerate(sources) if source != player}
    return dict.fromkeys(shared, "later layers reuse its keys and values")


GENERIC_LOCKS = (one_attention_layer, shared_indexers, sources_of_keys)
"""Locks that are read off any config that has such fields."""
