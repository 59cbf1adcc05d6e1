"""The plain way: one coalition at a time through the model itself, other layers skipped.

Slow, and right for any model that can be routed. The engine falls back on it, and is checked by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.parts.readings import FullModel, Reading, read_full, read_states
from coterie.game.coalitions import Coalition, Coalitions
from coterie.models.loaded.routing import input_device, routed
from coterie.models.loaded.stack import Stack

LOGIT_ROWS = 256
"""Rows of ready logits that are read, and for that copied, at once."""


@dataclass(frozen=True)
class ReadyLogits:
    """A head for states that are logits already."""

    vocabulary: int
    linear: bool = False

    def normed(self, states: Tensor) -> Tensor:
        """The states themselves: nothing is left to do."""
        return states

    def logits(self, states: Tensor, start: int, stop: int) -> Tensor:
        """A block of the table, copied, for the caller overwrites it.

        Args:
            states: Logits, ``(n_tokens, vocabulary)``.
            start: First token of the vocabulary.
            stop: The one after the last.
        """
        return states[:, start:stop].float().clone()

    def mean_rows(self, weights: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Ready logits have no rows.

        Args:
            weights: Of each token of the block, ``(n_tokens, stop - start)``.
            start: First token of the vocabulary.
            stop: The one after the last.
        """
        raise NotImplementedError


def routed_logits(
    model: PreTrainedModel, stack: Stack, coalition: Coalition, tokens: Tensor
) -> Tensor:
    """Logits of the predicted places under one coalition ``(n_players,)``.

    Args:
        model: In evaluation mode.
        stack: Its players.
        coalition: The players that stay, ``(n_players,)``.
        tokens: The texts, ``(n_sequences, length)``.

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

    At most two tables of logits are alive, and one where KL is not asked for.

    Args:
        model: In evaluation mode.
        stack: Its players.
        coalitions: ``(n_coalitions, n_players)``.
        tokens: The texts, ``(n_sequences, length)``.
        kl: Whether KL to the full model is read.

    Yields:
        The full model ``(n_sequences, n_predicted)`` and a reading of the same shape, in the order
        of ``coalitions``.
    """
    # The full model first: its prediction is what the coalitions are compared with.
    everyone = np.ones(stack.n_players, dtype=bool)
    full = [
        read_full(ReadyLogits(table.shape[-1]), table, targets, kl=kl, **_sizes(table))
        for table, targets in _tables(model, stack, everyone, tokens)
    ]
    # Only loss and likeliest token leave; the rest serves the comparison here.
    beside = FullModel(
        torch.stack([one.nll for one in full]), torch.stack([one.likeliest for one in full])
    )
    for coalition in coalitions:
        tables = _tables(model, stack, coalition, tokens)
        read = [
            vars(
                read_states(
                    ReadyLogits(table.shape[-1]), table[None], targets, own, **_sizes(table)
                )
            )
            for (table, targets), own in zip(tables, full, strict=True)
        ]
        yield beside, Reading(*(torch.cat([one[name] for one in read]) for name in read[0]))


def _tables(
    model: PreTrainedModel, stack: Stack, coalition: Coalition, tokens: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each text, the logits at its predicted places and the tokens to predict there."""
    # Text by text, for to flatten the table of all of them would be to copy it.
    for table, text in zip(routed_logits(model, stack, coalition, tokens), tokens, strict=True):
        yield table, text[1:].to(table.device)


def _sizes(table: Tensor) -> dict[str, int]:
    # The logits exist already, so all columns are read at once.
    return {"tokens": LOGIT_ROWS, "block": table.shape[-1]}
