"""What a model is made of and what may be cut, told from its config alone (meta device)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from coterie.models.cutting.config import checked_config, config_changes, cut_config
from coterie.models.cutting.structure import meta_model, structural_differences
from coterie.models.families.family import layer_kinds
from coterie.models.families.fields import text_config
from coterie.models.families.registry import check_kept
from coterie.models.loaded.stack import find_stack


@dataclass(frozen=True)
class Player:
    """One decoder layer: its number, its class, what it mixes tokens with, its size, its lock."""

    number: int
    layer: str
    kind: str
    n_parameters: int
    lock: str | None


@dataclass(frozen=True)
class Inspection:
    """What a model is made of.

    Attributes:
        model_type: Of the whole config.
        architecture: Class that transformers builds.
        path: Where the layers are.
        players: The layers, in order.
        n_parameters: Of the whole model; tied weights count once.
        n_embedding: Of these, in the embedding and the head, which no cut of layers makes smaller.
        changes: Fields of config.json that the asked cut would change; empty if none was asked.
        n_parameters_after: Of the cut model; that of the whole if no cut was asked.
    """

    model_type: str
    architecture: str
    path: str
    players: tuple[Player, ...]
    n_parameters: int
    n_embedding: int
    changes: dict[str, object]
    n_parameters_after: int

    def as_json(self) -> dict[str, object]:
        """The same as plain JSON."""
        return asdict(self)

    @property
    def unlocked(self) -> tuple[int, ...]:
        """The players that may be cut."""
        return tuple(player.number for player in self.players if player.lock is None)


def _embedding(model: PreTrainedModel) -> int:
    """Parameters of the embedding and the head; tied weights count once."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = [getattr(end, "weight", None) for end in ends]
    distinct = {id(one): one.numel() for one in weights if isinstance(one, Tensor)}
    return sum(distinct.values())


def inspect_config(
    config: PretrainedConfig, kept: Sequence[int] | None = None, *, trust_remote_code: bool = False
) -> Inspection:
    """Inspect a model by its config, and what keeping only some players would change.

    Args:
        config: Of the whole model.
        kept: Layers that stay, 0-based, ascending.
        trust_remote_code: Whether Python files of the checkpoint may be run.

    Raises:
        ModelError: The model has no stack of layers.
        CutError: The cut cannot be made.
    """
    whole = meta_model(config, trust_remote_code=trust_remote_code)
    stack = find_stack(whole)
    kinds = layer_kinds(text_config(config))
    total = whole.num_parameters()
    changes, after = dict[str, object](), total
    if kept is not None:
        kept = checked_config(kept, stack.n_players)
        check_kept(config, kept, stack.n_players)
        new = cut_config(config, kept, stack.n_players)
        changes = config_changes(config, new)
        cut = meta_model(new, trust_remote_code=trust_remote_code)
        after = cut.num_parameters()
        for difference in structural_differences(whole, cut, kept):
            changes[f"warning: layer {difference.layer}, {difference.field}"] = str(difference)
    players = tuple(
        Player(
            number=number,
            layer=type(layer).__name__,
            kind=kinds[number] if number < len(kinds) else "",
            n_parameters=sum(parameter.numel() for parameter in layer.parameters()),
            lock=stack.locks.get(number),
        )
        for number, layer in enumerate(stack.layers)
    )
    name = type(whole).__name__
    return Inspection(
        model_type=config.model_type,
        architecture=name,
        path=stack.path,
        players=players,
        n_parameters=total,
        n_embedding=_embedding(whole),
        changes=changes,
        n_parameters_after=after,
    )
