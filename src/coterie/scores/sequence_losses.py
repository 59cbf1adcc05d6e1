"""How well a checkpoint predicts text: its loss on every sequence, to be paired with another's."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from coterie.game.coalitions import Vector
from coterie.game.utilities import floor_nll
from coterie.models.loaded.routing import input_device
from coterie.texts.sets import Tokens

Predict = Callable[[Tensor], Tensor]
"""From token ids ``(n_sequences, length)`` to logits with the vocabulary as the last axis."""

_TOKENS = 2_048
"""Tokens read at once."""


@torch.no_grad()
def sequence_losses(
    model: PreTrainedModel, tokens: Tokens, predict: Predict | None = None
) -> tuple[Vector, int]:
    """Mean negative log-likelihood of each sequence, nats per token, and how many were no number.

    A loss that is not finite is read as `floor_nll`, as everywhere.

    Args:
        tokens: ``(n_sequences, length)``; returns losses ``(n_sequences,)``.
        predict: Gives the logits in the model's stead.
    """
    device, rows = input_device(model), max(1, _TOKENS // tokens.shape[1])
    parts, vocabulary = [], 0
    for at in range(0, len(tokens), rows):
        ids = torch.from_numpy(tokens[at : at + rows]).to(device)
        table = predict(ids) if predict else model(input_ids=ids, use_cache=False).logits
        logits = table[:, :-1].float()
        vocabulary = logits.shape[-1]
        parts.append(cross_entropy(logits.mT, ids[:, 1:], reduction="none").mean(1).double().cpu())
    return floored(torch.cat(parts).numpy(), vocabulary)


def floored(losses: Vector, vocabulary: int) -> tuple[Vector, int]:
    """The same losses, those that are not finite read as `floor_nll`, and how many these were."""
    bad = ~np.isfinite(losses)
    return np.where(bad, floor_nll(vocabulary), losses), int(bad.sum())
