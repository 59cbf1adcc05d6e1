"""Are layers that are brought from disk and run apart as in the model's own forward?"""

from contextlib import suppress

import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.evaluation.capture import NotReplayable, leading
from coterie.evaluation.shards import ShardedWeights
from coterie.evaluation.walk import Walker
from coterie.models.routing import Forward, patched
from coterie.models.stack import Stack

CHECKED_LAYERS = 2
"""First layers that are compared: more would read more, and the whole is not to be had."""

_ROOM = {torch.float32: 1e-4, torch.float64: 1e-4}
_COARSE_ROOM = 0.05
"""How far two states may differ, as a share of the largest entry."""


class _SeenEnough(Exception):
    """The last layer that is compared has run."""


def first_layers_agree(
    model: PreTrainedModel,
    stack: Stack,
    weights: ShardedWeights,
    walker: Walker,
    tokens: Tensor,
    dtype: torch.dtype,
) -> str:
    """Hold the embedding and the first layers, run apart, against the model's own forward.

    Args:
        model: Its weights are on the meta device; those that are needed are brought in.
        tokens: A few texts, ``(n_sequences, length)``.

    Returns:
        What was compared, and how near it came.

    Raises:
        NotReplayable: they differ.
    """
    last = min(CHECKED_LAYERS, stack.n_players) - 1
    prelude = walker.layers.prelude(tokens)
    gaps: list[float] = []

    def watched(layer: int, forward: Forward) -> Forward:
        key = weights.carried[layer].sources[0]

        def run(*args: object, **kwargs: object) -> object:
            weights.hold(layer)
            given = kwargs[key] if isinstance(key, str) else args[key or 0]
            assert isinstance(given, Tensor)
            given = given.clone()  # some layers add to their input in place
            if layer == 0:
                gaps.append(_gap(prelude.embedded, given))
            returned = forward(*args, **kwargs)
            with patched({stack.layers[layer]: forward}):
                apart = walker.batches.apply(prelude, layer, given, 0, 1)
            gaps.append(_gap(apart, leading(returned)))
            if layer == last:
                raise _SeenEnough
            return returned

        return run

    watching = {one: watched(i, one.forward) for i, one in enumerate(stack.layers[: last + 1])}
    with weights.beginning(), patched(watching), torch.no_grad(), suppress(_SeenEnough):
        model(input_ids=tokens.to(walker.device), use_cache=False)
    weights.forget()
    worst = max(gaps, default=1.0)
    if not worst <= _ROOM.get(dtype, _COARSE_ROOM):
        raise NotReplayable(
            f"its first layers, run apart, differ from the model by {worst:.2g} of the state"
        )
    return (
        f"the first {last + 1} layers on two sequences, as in the model's own forward to"
        f" {worst:.0e} of the state; the others are not checked"
    )


def _gap(found: Tensor, expected: Tensor) -> float:
    """Largest difference, as a share of the largest entry; states that are not finite agree."""
    if not torch.isfinite(expected).all():
        return 0.0 if torch.equal(torch.isfinite(found), torch.isfinite(expected)) else 1.0
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
