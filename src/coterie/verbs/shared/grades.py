"""A verdict in one word: how usable the smaller model is, by thresholds that are stated here."""

from dataclasses import dataclass, replace
from math import inf, log

from coterie.report.schema.verdict import VerdictPart


@dataclass(frozen=True)
class Grade:
    """A word, and the worst that still deserves it.

    Attributes:
        word: What the model is called.
        ratio: Most that its perplexity may be, as a multiple of the full model's.
        kl: Most nats per token that its predictions may diverge from the full model's.
        top1: Least share of tokens on which both have the same first choice.
        advice: What to do.
    """

    word: str
    ratio: float
    kl: float
    top1: float
    advice: str


GRADES = (
    Grade("close", 1.2, 0.25, 0.75, "usable as it is"),
    Grade("damaged", 1.5, 0.5, 0.6, "repair or heal it where quality matters"),
    Grade("heavily damaged", inf, inf, 0.0, "repair and heal it before use"),
)
"""From the best; the first all of whose bounds are met. Worse than guessing is broken."""

BROKEN = "broken"


def graded(part: VerdictPart, vocabulary: int) -> VerdictPart:
    """A verdict with its word and its sentence.

    Args:
        part: What was measured on held-out text.
        vocabulary: Tokens of the model: a uniform guess loses the logarithm of it.
    """
    guess = log(vocabulary)
    if part.after.nll >= guess or part.not_finite:
        sentence = (
            f"it predicts worse than a uniform guess ({part.after.nll:.2f} against {guess:.2f} nats"
            " per token); cut less"
        )
        return _told(part, BROKEN, sentence)
    # What is not known meets no bound but the last.
    kl, top1 = (inf if part.kl is None else part.kl), (0.0 if part.top1 is None else part.top1)
    grade = next(
        one for one in GRADES if part.ratio <= one.ratio and kl <= one.kl and top1 >= one.top1
    )
    agrees = "" if part.top1 is None else f"agrees with the full model on {top1:.0%} of tokens, "
    advice = grade.advice
    if part.generation is not None and part.generation.broken is not None:
        # What is usable by its perplexity alone must not be called so where it cannot write.
        advice = "but what it writes has broken: repair or heal it before use"
    return _told(part, grade.word, f"{agrees}perplexity ×{part.ratio:.3g}; {advice}")


def _told(part: VerdictPart, word: str, sentence: str) -> VerdictPart:
    return replace(part, grade=word, sentence=f"{word.capitalize()}: {sentence}.")
