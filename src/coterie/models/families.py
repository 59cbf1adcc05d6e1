"""What is particular about a model family, as data: where its layers are, which of them must stay.

Most families need no entry: the stack is found by counting, every layer is a free player, and the
generic rules of `surgery` rewrite the config. `register_family` adds one, in a few lines:

    register_family("my_type", Family(stack="decoder.blocks", lock_first="it embeds the positions"))
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from transformers import PretrainedConfig

Locks = dict[int, str]
"""Players that must stay, each with the reason."""


def no_locks(config: PretrainedConfig, n_players: int) -> Locks:
    """Every player may be cut."""
    return {}


def no_config_rule(config: PretrainedConfig, kept: tuple[int, ...], n_players: int) -> None:
    """The generic rules say it all."""


def no_tensor_rule(
    name: str, tensor: Tensor, config: PretrainedConfig, kept: tuple[int, ...]
) -> Tensor:
    """The tensor stays as it is."""
    return tensor


@dataclass(frozen=True)
class Family:
    """What Coterie has to be told about a model type because it cannot see it.

    Attributes:
        stack: Dotted path of the list of layers; None finds it by counting.
        lock_rule: The players that must stay, from the text config and the number of players.
        lock_first: Why player 0 must stay, or None.
        lock_last: Why the last player must stay, or None.
        refusal: Why no layer of this type can be cut at all, or None.
        config_rule: Changes the text config further, in place, after the generic rules.
        rewritten: Pattern (searched) of the names of tensors that a cut changes, not only renames.
        tensor_rule: The new value of such a tensor, from its OLD name, its value, the text config
            of the whole model and the kept players.
    """

    stack: str | None = None
    lock_rule: Callable[[PretrainedConfig, int], Locks] = no_locks
    lock_first: str | None = None
    lock_last: str | None = None
    refusal: str | None = None
    config_rule: Callable[[PretrainedConfig, tuple[int, ...], int], None] = no_config_rule
    rewritten: str | None = None
    tensor_rule: Callable[[str, Tensor, PretrainedConfig, tuple[int, ...]], Tensor] = no_tensor_rule

    def locks(self, config: PretrainedConfig, n_players: int) -> Locks:
        """The players that must stay, each with the reason, in order."""
        locks = dict(self.lock_rule(config, n_players))
        if self.lock_first:
            locks.setdefault(0, self.lock_first)
        if self.lock_last:
            locks.setdefault(n_players - 1, self.lock_last)
        if self.refusal:
            locks |= {player: self.refusal for player in range(n_players) if player not in locks}
        return dict(sorted(locks.items()))


_FAMILIES: dict[str, Family] = {}


def register_family(model_type: str, family: Family) -> None:
    """Tell Coterie about a model type (`model_type` of the text config); the last one wins."""
    _FAMILIES[model_type] = family


def family_of(config: PretrainedConfig) -> Family:
    """The entry of this config's model type; an empty one if nothing is particular about it."""
    return _FAMILIES.get(config.model_type, Family())
