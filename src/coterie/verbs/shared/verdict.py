"""Before against after: two models judged on the same held-out sequences, paired."""

from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Indices, Observations, Vector
from coterie.game.utilities import clustered_mean
from coterie.models.files.sources import Source
from coterie.plain import finite
from coterie.report.schema.verdict import DifferencePart, PerplexityPart, VerdictPart
from coterie.texts.sets import TextSet


@dataclass(frozen=True)
class Losses:
    """Loss of one model on every held-out sequence, nats per token; how many were no number."""

    each: Vector
    not_finite: int


def perplexity(losses: Vector, documents: Indices) -> PerplexityPart:
    """Mean loss and perplexity with its standard error over documents (delta method)."""
    nll, error = clustered_mean(losses, documents)
    value = float(np.exp(nll))
    # The delta method: d exp(x) = exp(x) dx.
    return PerplexityPart(nll=nll, perplexity=value, error=None if error is None else value * error)


def difference(before: Vector, after: Vector, texts: TextSet) -> DifferencePart:
    """After minus before, sequence by sequence.

    Args:
        before: Losses of one model, ``(n_sequences,)``, nats per token.
        after: The other's, on the same sequences.
        texts: The sequences; errors are taken over their documents.
    """
    # Paired: the spread between texts is common to both and cancels.
    change, error = clustered_mean(after - before, texts.documents)
    return DifferencePart(nll=change, error=error, documents=len(np.unique(texts.documents)))


def verdict_part(
    before: Vector, after: Vector, seen: Observations, texts: TextSet, not_finite: int
) -> VerdictPart:
    """Full model against the smaller one, paired sequence by sequence.

    Args:
        before: Losses of the full model, ``(n_sequences,)``, nats per token.
        after: The other's, on the same sequences.
        seen: What was observed of the other, ``(1, n_sequences)``.
        texts: The held-out sequences.
        not_finite: Observations that were no number and were read as the floor.
    """
    first, second = (perplexity(losses, texts.documents) for losses in (before, after))
    return VerdictPart(
        before=first,
        after=second,
        difference=difference(before, after, texts),
        # The ratio of perplexities is the exponential of the difference in loss.
        ratio=second.perplexity / first.perplexity,
        kl=finite(seen.kl.mean()),
        top1=finite(seen.top1.mean()),
        not_finite=not_finite,
    )


def recovered(full: Vector, before: Vector, after: Vector) -> float | None:
    """Share of the cut's cost that came back; None where the cut had cost nothing.

    Args:
        full: Losses of the full model, ``(n_sequences,)``, nats per token.
        before: Those of the cut one.
        after: Those of the healed one.
    """
    cost = float(before.mean() - full.mean())
    # A cut that cost nothing leaves nothing to recover: a share of it has no meaning.
    return float(before.mean() - after.mean()) / cost if cost > 0 else None


def n_bytes(source: Source) -> int:
    """Bytes of all tensors on disk."""
    return sum(entry.n_bytes for entry in source.entries)
