"""The states between the layers of the full model, text by text, for rivals that read them."""

from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from coterie.engine.parts.layers import leading
from coterie.models.loaded.routing import Forward, carried_leaves, input_device, patched
from coterie.rivals.interface import DoesNotApply, Meter, Task

BATCH = 8
"""Texts run at once."""


def batches(task: Task, size: int = BATCH) -> Iterator[Tensor]:
    """The calibration texts, ``(n, length)`` at a time, where the model reads them."""
    tokens, device = torch.from_numpy(task.tokens), input_device(task.model)
    return (part.to(device) for part in tokens.split(size))


def states_of(task: Task, meter: Meter) -> Iterator[list[Tensor]]:
    """Run the layers of the full model on all texts, and count it.

    Yields:
        Per batch the states ``(n, length, width)`` before each layer and after the last, float32.
    """
    for tokens in batches(task):
        yield layer_states(task, tokens)
        meter.ran(layer_tokens=task.n_players * tokens.numel())


def layer_states(task: Task, tokens: Tensor) -> list[Tensor]:
    """The states before each layer and after the last: the head is not run.

    Raises:
        DoesNotApply: The layers do not run in order, each once.
    """
    # The number of each layer is kept beside its state: the order is checked at the end.
    seen: list[tuple[int, Tensor]] = []
    carried = carried_leaves(task.model, task.stack)
    last = task.n_players - 1

    def spy(layer: int, forward: Forward) -> Forward:
        def run(*args: object, **kwargs: object) -> object:
            if layer == 0:
                seen.append((-1, leading(carried[0].through(args, kwargs)).float()))
            returned = forward(*args, **kwargs)
            seen.append((layer, leading(returned).float()))
            # The head is not run: no rival here reads logits, and it often costs more than a layer.
            if layer == last:
                raise _Enough
            return returned

        return run

    forwards = {layer: spy(i, layer.forward) for i, layer in enumerate(task.stack.layers)}
    with patched(forwards), torch.no_grad(), suppress(_Enough):
        task.model(input_ids=tokens, use_cache=False)
    if [place for place, _ in seen] != list(range(-1, task.n_players)):
        raise DoesNotApply("its layers do not run in order, each once: their states say nothing")
    return [state for _, state in seen]


class _Enough(Exception):
    """The last layer has run."""
