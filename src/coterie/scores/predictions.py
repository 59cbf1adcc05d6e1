"""What a model predicts after every token, kept in little room, so that another is held against it.

Of every prediction the k most likely tokens are kept and the mass on all others: models take turns
in memory, and never two are there at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax
from transformers import PreTrainedModel

from coterie.models.loaded.routing import input_device
from coterie.scores.sequence_losses import FORWARD_TOKENS
from coterie.texts.sets import Tokens

TOP = 512
"""Most likely tokens that are kept of every prediction."""

AT_MOST = 8192
"""Tokens on which models are held against each other: more say nothing new."""


def others(log_probs: Tensor, ids: Tensor) -> Tensor:
    """Log of the mass on all tokens but these, ``(…, 1)``."""
    return log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)


def fits_whole(vocabulary: int, top: int) -> bool:
    """Whether all log-probabilities take no more room than some with their ids."""
    return vocabulary <= 2 * top


def divergence(theirs: Tensor, mine: Tensor, ids: Tensor | None, rest: Tensor | None) -> Tensor:
    """KL(theirs ‖ mine), nats per token; of the tokens that are named and the rest as one token.

    Taking tokens together never raises a KL (log-sum inequality), so that is a lower bound of the
    whole one; and it does not push all of a student's mass onto the tokens that are named, as a KL
    over these alone would (arXiv:2503.16870).

    Args:
        theirs: Log-probabilities ``(n_tokens, vocabulary)``, or ``(n_tokens, k)`` of some tokens.
        mine: Log-probabilities ``(n_tokens, vocabulary)``.
        ids: Which tokens those are, ``(n_tokens, k)``; None where they are all, in order.
        rest: Log of their mass on all other tokens, ``(n_tokens, 1)``; None likewise.
    """
    if ids is not None and rest is not None:
        # Both sides in the same k + 1 classes: the tokens that are named, and all others as one.
        mine = torch.cat([mine.gather(-1, ids), others(mine, ids)], dim=-1)
        theirs = torch.cat([theirs, rest], dim=-1)
    return kl_div(mine, theirs, log_target=True, reduction="batchmean")


@dataclass(frozen=True, eq=False)
class KeptPredictions:
    """Predictions of a model on the first sequences of a text.

    Attributes:
        tokens: The sequences, ``(n_sequences, length)``.
        parts: For each group of them log-probabilities, ids and rest, on the CPU; the last two are
            None where the vocabulary is kept whole.
    """

    tokens: Tokens
    parts: tuple[tuple[Tensor, Tensor | None, Tensor | None], ...]

    @property
    def rows(self) -> int:
        """Sequences of one forward pass."""
        return max(1, FORWARD_TOKENS // self.tokens.shape[1])


def first_rows(tokens: Tokens) -> Tokens:
    """As many sequences, from the first, as models are held against each other on."""
    return tokens[: max(1, AT_MOST // tokens.shape[1])]


@torch.no_grad()
def keep(model: PreTrainedModel, tokens: Tokens, top: int = TOP) -> KeptPredictions:
    """What a model predicts after every token of the first sequences but their last.

    Args:
        model: In evaluation mode.
        tokens: The sequences, ``(n_sequences, length)``.
        top: Most likely tokens that are kept.
    """
    found = KeptPredictions(first_rows(tokens), ())
    parts: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
    for logs in _predicted(model, found):
        if fits_whole(logs.shape[-1], top):
            parts.append((logs.cpu(), None, None))
            continue
        kept, ids = logs.topk(top, dim=-1)
        parts.append((kept.cpu(), ids.cpu(), others(logs, ids).cpu()))
    return KeptPredictions(found.tokens, tuple(parts))


@torch.no_grad()
def held_against(kept: KeptPredictions, model: PreTrainedModel) -> tuple[float, float]:
    """KL(kept ‖ model), nats per token, and the share of tokens with the same first choice.

    Args:
        kept: What the other model predicted.
        model: In evaluation mode; of the same vocabulary.
    """
    divergences, same = [], []
    for (stored, *more), mine in zip(kept.parts, _predicted(model, kept), strict=True):
        where = mine.device
        theirs = stored.to(where)
        ids, rest = (one if one is None else one.to(where) for one in more)
        divergences.append(divergence(theirs, mine, ids, rest).item() * len(mine))
        # The most likely token: the first of those that are named, or of all.
        best = theirs.argmax(-1, keepdim=True)
        best = best if ids is None else ids.gather(-1, best)
        same.append((best[:, 0] == mine.argmax(-1)).sum().item())
    n = kept.tokens.shape[0] * (kept.tokens.shape[1] - 1)
    return float(np.sum(divergences)) / n, float(np.sum(same)) / n


def _predicted(model: PreTrainedModel, kept: KeptPredictions) -> Iterator[Tensor]:
    """Log-probabilities of every group of sequences, ``(n_tokens, vocabulary)``."""
    for rows in torch.from_numpy(kept.tokens).split(kept.rows):
        logits = model(input_ids=rows.to(input_device(model)), use_cache=False).logits[:, :-1]
        yield log_softmax(logits.float(), dim=-1).flatten(0, 1)
