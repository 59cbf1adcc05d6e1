"""What a student is trained to do: predict as its teacher, predict the text, arrive alike."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from coterie.healing.gap_states import distance
from coterie.healing.teachers import Targets


@dataclass(frozen=True)
class LossWeights:
    """Of the losses that are added up.

    Attributes:
        gaps: Of the distance between the states after each gap and the teacher's.
        cross_entropy: Of the text itself.
    """

    gaps: float = 0.0
    cross_entropy: float = 0.0


@dataclass(frozen=True)
class BatchLosses:
    """What a batch came to; every loss is measured, whatever its weight.

    Attributes:
        total: The weighted sum, to descend.
        kl: KL(full ‖ kept), nats per token.
        text: Cross-entropy of the text, nats per token, without a gradient where it has no weight.
        states: Distance of the states after the gaps, a share; 0 where it has no weight.
    """

    total: Tensor
    kl: Tensor
    text: Tensor
    states: Tensor


def batch_losses(
    logits: Tensor, tokens: Tensor, targets: Targets, states: list[Tensor], weights: LossWeights
) -> BatchLosses:
    """The losses of a student on a batch.

    Args:
        logits: What it predicts, ``(n_sequences, length, vocabulary)``.
        tokens: The sequences, ``(n_sequences, length)``.
        targets: What its teacher predicts.
        states: What entered its layers after each gap, where that has a weight.
        weights: Of the losses.
    """
    kl = targets.divergence(logits)
    with torch.set_grad_enabled(weights.cross_entropy > 0):
        following = tokens[:, 1:].flatten().to(logits.device)
        text = cross_entropy(logits[:, :-1].flatten(0, 1).float(), following)
    total, apart = kl, torch.zeros(())
    if weights.cross_entropy:
        total = total + weights.cross_entropy * text
    if weights.gaps:
        apart = distance(states, targets.states).to(kl.device)
        total = total + weights.gaps * apart
    return BatchLosses(total, kl.detach(), text.detach(), apart.detach())
