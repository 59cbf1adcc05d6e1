"""What a change of a model costs, on texts that did not choose it."""

from dataclasses import dataclass

from coterie.report.schema.generation import GenerationPart
from coterie.report.schema.part import Part


@dataclass(frozen=True)
class PerplexityPart(Part):
    """Held-out loss of one model: nats per token, perplexity and its standard error."""

    # Loss and perplexity say the same; people read either.
    nll: float
    perplexity: float
    error: float | None


@dataclass(frozen=True)
class DifferencePart(Part):
    """Change of the held-out loss, nats per token, paired sequence by sequence, over documents."""

    # Paired, so its error is far below that of either loss.
    nll: float
    error: float | None
    documents: int


@dataclass(frozen=True)
class VerdictPart(Part):
    """What the cut cost on texts that did not choose it."""

    # Full model, then the smaller one.
    before: PerplexityPart
    after: PerplexityPart
    difference: DifferencePart
    ratio: float
    # How far predictions moved: KL and agreement are with the full model.
    kl: float | None
    top1: float | None
    not_finite: int
    """Held-out losses of the smaller model that were not finite and were read as the floor."""
    grade: str | None = None
    """broken, heavily damaged, damaged or close; absent in records of older versions."""
    sentence: str | None = None
    """The same with its reason and what to do."""
    generation: GenerationPart | None = None
    """What both write; absent where nothing could be written, as where weights are on disk."""
