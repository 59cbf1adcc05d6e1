"""Smaller players: the attention and the feed-forward block of each layer, for study and search.

A block that is skipped adds nothing to the residual stream. That is deletion wherever a layer is
``x + attention(norm(x))`` then ``x + mlp(norm(x))``, which is checked, not assumed: with all its
blocks skipped a layer must hand on exactly what it was given.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from coterie.errors import ModelError
from coterie.models.loaded.routing import patched, record_calls, zero_output
from coterie.models.loaded.stack import PLAYERS, Players, Stack, find_stack
from coterie.models.runtimes.block_rules import gone_blocks

# Names of blocks in the families of transformers; a new one is added here.
_ATTENTION = re.compile(r"^(self_attn|attn|attention|self_attention|linear_attn|temporal_block)$")
_MLP = re.compile(r"^(mlp|feed_forward|ffn|block_sparse_moe|mlp_block|moe)$")


def find_players(model: PreTrainedModel, players: Players = "layer") -> Stack:
    """The players of one kind: whole layers, attention blocks, feed-forward blocks, or both.

    With ``"sublayer"`` player ``2 i`` is the attention and ``2 i + 1`` the feed-forward block of
    layer ``i``. A block of a locked layer is locked.

    Raises:
        ModelError: The kind is unknown, or the layers are not built of such blocks.
    """
    if players not in PLAYERS:
        raise ModelError(f"players {players!r} are unknown: there are {', '.join(PLAYERS)}")
    stack = find_stack(model)
    if players == "layer":
        return stack
    blocks = [
        blocks_of(layer, players, f"{stack.path}.{i}") for i, layer in enumerate(stack.layers)
    ]
    width = len(blocks[0])
    # A layer that must stay keeps both of its blocks.
    locks = {
        player * width + place: reason
        for player, reason in stack.locks.items()
        for place in range(width)
    }
    gone = gone_players(model.config.to_dict(), players, stack.n_players)
    locks = dict.fromkeys(gone, "it is gone already") | locks
    found = Stack(stack.path, tuple(block for some in blocks for block in some), locks, players)
    _check_residual(model, stack)
    return found


def gone_players(fields: Mapping[str, object], players: Players, n_layers: int) -> list[int]:
    """Blocks that an earlier cut took, by their number as players: there is nothing left to cut.

    Args:
        fields: Of the model's config.
        players: What a player is.
        n_layers: Layers of the model.
    """
    names = {"attention": ("attention",), "mlp": ("ffn",), "sublayer": ("attention", "ffn")}
    gone = [gone_blocks(fields, name) for name in names.get(players, ())]
    width = len(gone)
    return [i for i in range(n_layers * width) if i // width in gone[i % width]]


def blocks_of(layer: nn.Module, players: Players, name: str) -> list[nn.Module]:
    """The blocks of one layer, called ``name``, that are players of a kind, in the order they run.

    Args:
        layer: A decoder layer.
        players: Which of its blocks are players.
        name: Of the layer, for messages.

    Raises:
        ModelError: The layer has not one block of each kind.
    """
    attention = [child for key, child in layer.named_children() if _ATTENTION.match(key)]
    mlp = [child for key, child in layer.named_children() if _MLP.match(key)]
    if len(attention) != 1 or len(mlp) != 1:
        raise ModelError(
            f"layer {name} has {len(attention)} attention and {len(mlp)} feed-forward blocks, not"
            " one of each: only whole layers of this model are players (--players layer)"
        )
    return {"attention": attention, "mlp": mlp, "sublayer": [attention[0], mlp[0]]}[players]


def block_parameters(layers: Stack, blocks: Stack) -> NDArray[np.float64]:
    """Parameters that go with each block, ``(n_blocks,)``: its own, and half of its layer's norms.

    Both blocks of a layer have together what the layer has.

    Args:
        layers: The whole layers.
        blocks: Both blocks of each, from `find_players`.
    """
    own = np.array([_parameters(block) for block in blocks.layers], dtype=float).reshape(-1, 2)
    whole = np.array([_parameters(layer) for layer in layers.layers], dtype=float)
    return (own + (whole - own.sum(axis=1))[:, None] / 2).reshape(-1)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check_residual(model: PreTrainedModel, stack: Stack) -> None:
    blocks = [block for layer in stack.layers for block in blocks_of(layer, "sublayer", stack.path)]
    try:
        with patched({block: zero_output(block) for block in blocks}):
            calls = record_calls(model, stack)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise _not_residual(stack, str(error)) from error
    # With nothing added, each layer must return exactly what it was given.
    for call in calls:
        given = tree_leaves((call.args, call.kwargs))
        state = tree_leaves(call.returned)[0]
        if not any(isinstance(leaf, torch.Tensor) and _same(leaf, state) for leaf in given):
            raise _not_residual(stack, f"layer {call.player} changes its input")


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other))


def _not_residual(stack: Stack, why: str) -> ModelError:
    return ModelError(
        f"the layers at {stack.path} do more than add their blocks to the state ({why}): only whole"
        " layers of this model are players (--players layer)"
    )
