"""Before against after: two checkpoints judged on the same held-out sequences, paired."""

import math
from dataclasses import dataclass

import numpy as np

from coterie.evaluation.calibration import TextSet
from coterie.game.coalitions import Indices, Vector
from coterie.game.utilities import clustered_mean
from coterie.models.sources import Source
from coterie.report.record import DifferencePart, PerplexityPart


@dataclass(frozen=True)
class Losses:
    """Loss of one model on every held-out sequence, nats per token; how many were no number."""

    each: Vector
    not_finite: int


def perplexity(losses: Vector, documents: Indices) -> PerplexityPart:
    """Mean loss and perplexity with its standard error over documents (delta method)."""
    nll, error = clustered_mean(losses, documents)
    value = math.exp(nll)
    return PerplexityPart(nll=nll, perplexity=value, error=None if error is None else value * error)


def difference(before: Vector, after: Vector, texts: TextSet) -> DifferencePart:
    """After minus before, sequence by sequence."""
    change, error = clustered_mean(after - before, texts.documents)
    return DifferencePart(nll=change, error=error, documents=len(np.unique(texts.documents)))


def recovered(full: Vector, before: Vector, after: Vector) -> float | None:
    """Share of the cut's cost that came back; None where the cut had cost nothing."""
    cost = float(before.mean() - full.mean())
    return float(before.mean() - after.mean()) / cost if cost > 0 else None


def n_bytes(source: Source) -> int:
    """Bytes of all tensors on disk."""
    return sum(entry.n_bytes for entry in source.entries)
