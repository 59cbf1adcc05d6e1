"""What a smaller model writes beside the full one, as plain JSON."""

from dataclasses import dataclass

from coterie.report.schema.part import Part


@dataclass(frozen=True)
class WriterPart(Part):
    """What one model wrote, as means over all prompts."""

    tokens: float
    """Written until the end-of-text token, or until there was no time or room."""
    repeated: float | None
    """Share of 4-grams that stood before in the same continuation."""
    loops: float
    """Share of the continuations that end up going round in circles."""
    to_loop: float | None
    """Tokens before the loop began, of those that have one."""
    perplexity: float | None
    """Of what it wrote, as the full model reads it."""


@dataclass(frozen=True)
class SamplePart(Part):
    """One prompt, and how both models went on."""

    prompt: str
    full: str
    smaller: str


@dataclass(frozen=True, kw_only=True)
class GenerationPart(Part):
    """Greedy continuations of held-out prompts by the full and by the smaller model."""

    # How they were asked.
    prompts: int
    prompt_tokens: int
    new_tokens: int
    """Most tokens that either wrote."""
    chat: bool
    """Whether prompts went through the model's chat template."""
    # Each by itself, then both together.
    full: WriterPart
    smaller: WriterPart
    compared: int
    """Tokens over which both are compared: the first 32, or all where there are fewer."""
    agreement: float
    """Share of these in which both wrote the same token at the same place."""
    in_common: float
    """Mean number of tokens until they first differ."""
    broken: str | None
    """A plain sentence where what it writes has broken; null where it has not."""
    samples: list[SamplePart]


@dataclass(frozen=True, kw_only=True)
class BesidePart(Part):
    """How near a checkpoint is to the full model, or to what was quantized, on held-out text."""

    model: str
    """Which of both it is held against: `full` or `before`."""
    kl: float | None
    """KL(that ‖ this), nats per token, over its most likely tokens and the others as one."""
    top1: float | None
    """Share of tokens on which both have the same first choice."""
    sequences: int
    generation: GenerationPart | None = None
    """What both write; absent where nothing could be written."""
