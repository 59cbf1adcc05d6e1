"""The plain way: one coalition at a time through the model itself, other layers skipped.

Slow, and right for any model that can be routed. The engine falls back on it, and is checked by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.evaluation.metrics import FullModel, Reading, read_full, read_states
from coterie.game.coalitions import Coalitions
from coterie.models.routing import input_device, routed
from coterie.models.stack import Stack


@dataclass(frozen=True)
class ReadyLogits:
    """A head for states that are logits already."""

    vocabulary: int
    linear: bool = False

    def normed(self, states: Tensor) -> Tensor:
        """Nothing is left to do."""
        return states

    def logits(self, states: Tensor, start: int, stop: int) -> Tensor:
        """A block of the table, copied, for the caller overwrites it."""
        return states[:, start:stop].float().clone()

    def mean_rows(self, weights: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Ready logits have no rows."""
        raise NotImplementedError


def routed_logits(
    model: PreTrainedModel, stack: Stack, coalition: Coalitions, tokens: Tensor
) -> Tensor:
    """Logits of the predicted places under one coalition ``(n_players,)``.

    Returns:
        Shape ``(n_sequences, length - 1, vocabulary)``.
    """
    with routed(model, stack, coalition.tolist()), torch.no_grad():
        logits = model(input_ids=tokens.to(input_device(model)), use_cache=False).logits
    return logits[:, :-1]


def read_one_by_one(
    model: PreTrainedModel, stack: Stack, coalitions: Coalitions, tokens: Tensor, *, kl: bool
) -> Iterator[tuple[FullModel, Reading]]:
    """Read coalitions on a few sequences, one after the other, and the full model beside each.

    Yields:
        The full model ``(n_sequences, n_predicted, …)`` and a reading
        ``(n_sequences, n_predicted)``, in the order of ``coalitions``.
    """
    everyone = np.ones(stack.n_players, dtype=bool)
    whole = routed_logits(model, stack, everyone, tokens)
    shape = whole.shape[:2]
    head = ReadyLogits(whole.shape[-1])
    targets = tokens[:, 1:].to(whole.device).flatten()
    sizes = {"tokens": 256, "block": head.vocabulary}
    full = read_full(head, whole.flatten(0, 1), targets, kl=kl, **sizes)
    for coalition in coalitions:
        logits = routed_logits(model, stack, coalition, tokens).flatten(0, 1)
        reading = read_states(head, logits[None], targets, full, **sizes)
        nll, kl_, agrees = (part.view(shape) for part in vars(reading).values())
        yield FullModel(full.nll.view(shape), full.likeliest.view(shape)), Reading(nll, kl_, agrees)
