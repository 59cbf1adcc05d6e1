"""Shortened LLaMA: three rankings of whole layers (Kim et al. 2024, arXiv:2402.02834).

PPL ranks by the loss without the layer. Taylor+ sums |w · ∂L/∂w| and magnitude+ sums |w| over the
weights of a layer; the plus says that the first four and the last two layers are kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from coterie.game.coalitions import Vector
from coterie.game.search.plain import one_shot
from coterie.rivals._ranking import lowest_first, with_ends
from coterie.rivals._states import batches
from coterie.rivals.interface import Chosen, DoesNotApply, Meter, Selection, Task

FIRST, LAST = 4, 2
"""Layers at either end that the two weight rankings keep."""

TEXTS_AT_ONCE = 2  # a backward pass keeps the states of every layer


def by_perplexity(task: Task, meter: Meter) -> Chosen:
    """Remove the layers without which, one at a time, the loss is lowest."""
    answers = one_shot(meter.ledger(), task.keeps, locked=task.locked)
    return {
        removal: Selection(answer.coalition[None])
        for removal, answer in zip(task.removals, answers, strict=True)
    }


def by_taylor(task: Task, meter: Meter) -> Chosen:
    """Remove the layers whose weights the loss would miss least, to first order."""
    return lowest_first(task, meter, taylor(task, meter), with_ends(task, FIRST, LAST))


def by_magnitude(task: Task, meter: Meter) -> Chosen:
    """Remove the layers of the smallest weights; no text is read."""
    scores = [
        sum(w.detach().abs().sum(dtype=torch.float64).item() for w in _weights(x))
        for x in task.stack.layers
    ]
    return lowest_first(task, meter, np.array(scores), with_ends(task, FIRST, LAST))


def taylor(task: Task, meter: Meter) -> Vector:
    """Σ |w · ∂L/∂w| over the weights of each layer, with L the mean loss of all texts."""
    weights = [_weights(layer) for layer in task.stack.layers]
    flat = [weight for some in weights for weight in some]
    n_predicted = len(task.tokens) * (task.length - 1)
    totals: list[torch.Tensor] | None = None
    with _differentiable(flat), torch.enable_grad():
        for tokens in batches(task, TEXTS_AT_ONCE):
            logits = task.model(input_ids=tokens, use_cache=False).logits[:, :-1]
            targets = tokens[:, 1:].flatten()
            loss = cross_entropy(logits.flatten(0, 1).float(), targets, reduction="sum")
            # Divided before the gradient: the sum over batches is then that of the mean loss.
            parts = torch.autograd.grad(loss / n_predicted, flat, allow_unused=True)
            found = [
                torch.zeros_like(w) if g is None else g for w, g in zip(flat, parts, strict=True)
            ]
            totals = (
                found if totals is None else [a.add_(b) for a, b in zip(totals, found, strict=True)]
            )
            work = task.n_players * tokens.numel()
            meter.ran(layer_tokens=work, head_tokens=len(targets), backward=work)
    assert totals is not None
    # Only now, since |w · Σ g| is not Σ |w · g|: the gradient is that of all texts.
    pairs = zip(flat, totals, strict=True)
    saliences = iter([(w.detach() * g).abs().sum(dtype=torch.float64).item() for w, g in pairs])
    return np.array([sum(next(saliences) for _ in some) for some in weights])


def _weights(layer: nn.Module) -> list[nn.Parameter]:
    """The weights of a layer, without its biases."""
    found = [p for name, p in layer.named_parameters() if name.rpartition(".")[2] == "weight"]
    if not found or any(p.is_meta or not p.is_floating_point() for p in found):
        raise DoesNotApply("its weights are packed, or not in memory: they cannot be ranked")
    return found


@contextmanager
def _differentiable(weights: list[nn.Parameter]) -> Iterator[None]:
    """Inside, the weights may be differentiated by; nothing is ever stored in their `grad`."""
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, asked in zip(weights, before, strict=True):
            weight.requires_grad_(asked)
