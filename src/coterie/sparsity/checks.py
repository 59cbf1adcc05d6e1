"""Refuse what no pruner can do, before a weight is changed: levels, maps, too little text."""

from collections.abc import Sequence

from coterie.models.loaded.stack import Stack
from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.levels import Allocation, LayerLevel, Pruner, share
from coterie.sparsity.linears import LinearMap, check_names, level_of, linear_maps
from coterie.sparsity.masks import check_level


def check_allocation(stack: Stack, allocation: Allocation) -> None:
    """Refuse an allocation that some layer cannot have.

    Raises:
        SparsityError: The number of levels is not that of the layers, or a level cannot be had.
        ModelError: A layer holds weights that cannot be pruned.
    """
    if stack.players != "layer":
        raise ValueError(
            "an allocation has one level for each whole layer: give the stack of the layers"
        )
    if len(allocation) != stack.n_players:
        raise SparsityError(
            f"the allocation has {len(allocation)} levels, the model {stack.n_players} layers: give"
            " one for each"
        )
    # Every layer is checked before the first one is pruned: pruning may take hours.
    for layer, level in enumerate(allocation):
        check_layer(stack, layer, level, linear_maps(stack, layer))


def check_layer(stack: Stack, layer: int, level: LayerLevel, maps: Sequence[LinearMap]) -> None:
    """Refuse a level that one layer cannot have.

    Args:
        stack: The layers of a model.
        layer: Which of them.
        level: How sparse it should become.
        maps: The linear maps of that layer.

    Raises:
        SparsityError: Names the map, the level and the rule.
    """
    where = f"{stack.path}.{layer}"
    check_names(level, tuple(maps), where)
    for found in maps:
        check_level(level_of(level, found), found.weight.shape[1], f"{where}.{found.name}")


def widest_input(stack: Stack) -> int:
    """Inputs of the widest linear map in any layer; weights are not looked at."""
    maps = [found for layer in range(stack.n_players) for found in linear_maps(stack, layer)]
    return max(found.weight.shape[1] for found in maps)


def check_tokens(stack: Stack, allocation: Allocation, pruner: Pruner, tokens: int) -> None:
    """Refuse texts that are too short for a Hessian of full rank.

    An expert sees only the tokens routed to it, so of experts only what all of them get is asked;
    the record counts the rows each has seen.

    Args:
        stack: The layers of a model; weights are not looked at.
        allocation: A level for every layer.
        pruner: Says what it needs.
        tokens: Calibration tokens there are.

    Raises:
        SparsityError: Names the tokens there are, those that are needed, and the damping without
            which the Hessian would have no inverse.
    """
    if pruner.needs != "hessian":
        return
    # Only maps that lose weights have their Hessian inverted.
    widths = {
        found.weight.shape[1]: f"{stack.path}.{layer}.{found.name}"
        for layer, level in enumerate(allocation)
        for found in linear_maps(stack, layer)
        if share(level_of(level, found)) > 0
    }
    widest = max(widths, default=0)
    # The mean of t products x xᵀ has at most rank t, and no inverse below full rank.
    if tokens < widest:
        damping = getattr(pruner, "damping", 0.0)
        raise SparsityError(
            f"{tokens} calibration tokens are too few for {pruner.name}: {widths[widest]}"
            f" has {widest} inputs, and with fewer tokens than inputs its Hessian has an inverse"
            f" only through the damping ({damping:g} of its mean diagonal); prune on at least"
            f" {widest} tokens (--pruning-sequences), better ten times as many, or by wanda"
        )
