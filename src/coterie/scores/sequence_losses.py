"""How well a model predicts text: its loss on every sequence, to be paired with another's."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from coterie.engine.memory import is_out_of_memory
from coterie.engine.parts.one_by_one import LOGIT_ROWS, ReadyLogits
from coterie.engine.parts.readings import read_full
from coterie.engine.played_texts import vocabulary_of
from coterie.errors import UserError
from coterie.game.coalitions import Vector
from coterie.game.utilities import floor_nll
from coterie.models.loaded.routing import input_device
from coterie.texts.sets import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Predict = Callable[[Tensor], Tensor]
"""From token ids ``(n_sequences, length)`` to logits with the vocabulary as the last axis."""

FORWARD_TOKENS = 2048
"""Tokens of one forward pass; a longer sequence is one pass of its own."""


@torch.no_grad()
def sequence_losses(
    model: "PreTrainedModel",
    tokens: Tokens,
    *,
    predict: Predict | None = None,
    step: Callable[[int, int], None] | None = None,
) -> Vector:
    """Negative log-likelihood of every sequence, nats per predicted token, ``(n_sequences,)``.

    Args:
        model: In evaluation mode.
        tokens: Token ids, ``(n_sequences, length)``.
        predict: Gives the logits instead of the model.
        step: Told how many sequences are done, and how many there are.

    Raises:
        UserError: one sequence does not fit the memory.
    """
    predict = predict or (lambda ids: model(input_ids=ids, use_cache=False).logits)
    losses: list[Vector] = []
    # Whole sequences in each pass, as many as the limit of tokens allows.
    for rows in torch.from_numpy(tokens).split(max(1, FORWARD_TOKENS // tokens.shape[1])):
        try:
            ids = rows.to(input_device(model))
            # The logits at place t predict the token at place t + 1.
            losses.append(_losses(predict(ids)[:, :-1], ids[:, 1:]))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"sequences of {tokens.shape[1]} tokens do not fit the memory of {model.device}: "
                "give a smaller --length"
            ) from error
        if step is not None:
            step(sum(map(len, losses)), len(tokens))
    return np.concatenate(losses)


def floored_losses(
    model: "PreTrainedModel", tokens: Tokens, *, predict: Predict | None = None
) -> tuple[Vector, int]:
    """The same, losses that are not finite read as `floor_nll`, and how many these were.

    Args:
        model: In evaluation mode.
        tokens: Token ids, ``(n_sequences, length)``.
        predict: Gives the logits instead of the model.
    """
    losses = sequence_losses(model, tokens, predict=predict)
    return floored(losses, vocabulary_of(model))


def floored(losses: Vector, vocabulary: int) -> tuple[Vector, int]:
    """Losses with `floor_nll` in place of those that are not finite, and how many these were."""
    # No sequence is dropped: one without a finite loss is read as worse than guessing.
    bad = ~np.isfinite(losses)
    return np.where(bad, floor_nll(vocabulary), losses), int(bad.sum())


def _losses(logits: Tensor, targets: Tensor) -> Vector:
    """Mean loss of each sequence, read in parts: no second table of logits is made."""
    vocabulary = logits.shape[-1]
    targets = targets.to(logits.device)
    read = read_full(
        ReadyLogits(vocabulary),
        logits.flatten(0, 1),
        targets.flatten(),
        kl=False,
        tokens=LOGIT_ROWS,
        block=vocabulary,
    )
    return read.nll.view(targets.shape).double().mean(dim=1).cpu().numpy()
