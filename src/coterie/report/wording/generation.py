"""What a smaller model writes beside the full one, in rows and sentences."""

from collections.abc import Callable

from coterie.report import words as w
from coterie.report.schema.generation import GenerationPart, WriterPart

FINE = 1.5
"""Ratio of perplexities up to which a reader would think that all is well."""


def generation_warning(part: GenerationPart | None, ratio: float) -> str | None:
    """A sentence where writing has broken; it says so where perplexity does not show it.

    Args:
        part: What was written.
        ratio: Perplexity of the smaller model over that of the full one.
    """
    if part is None or part.broken is None:
        return None
    though = f", though its perplexity is only ×{ratio:.2f}" if ratio <= FINE else ""
    return f"Generation broke{though}: {part.broken}."


def generation_rows(part: GenerationPart, first: str = "full model") -> list[tuple[str, str, str]]:
    """Name of a measure, what the full model has, and what the smaller one.

    Args:
        part: What was written.
        first: What the one is called that the smaller is held against.
    """
    measures: list[tuple[str, Callable[[WriterPart], str]]] = [
        ("continuations that loop", lambda one: f"{one.loops:.0%}"),
        ("tokens before the loop", lambda one: w.or_dash(one.to_loop, "{:.0f}")),
        ("repeated 4-grams", lambda one: _share(one.repeated)),
        ("tokens written", lambda one: f"{one.tokens:.0f}"),
        (f"perplexity of it to the {first}", _perplexity),
    ]
    rows = [(name, told(part.full), told(part.smaller)) for name, told in measures]
    agreed = f"{part.agreement:.0%} of the first {part.compared} tokens"
    return [*rows, ("the same as it", "", f"{agreed}; {part.in_common:.1f} until they differ")]


def how_asked(part: GenerationPart) -> str:
    """How both were asked to write, in a few words."""
    through = " through the chat template" if part.chat else ""
    return (
        f"{part.prompts} held-out prompts of {part.prompt_tokens} tokens{through}, continued"
        f" greedily by at most {part.new_tokens}"
    )


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _perplexity(one: WriterPart) -> str:
    return w.or_dash(one.perplexity, "{:.2f}")
