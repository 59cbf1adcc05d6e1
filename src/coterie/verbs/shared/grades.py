"""A verdict in one word: how usable the smaller model is, by thresholds that are stated here."""

from dataclasses import dataclass, replace
from math import inf, log

from coterie.report.schema.after_cut import AfterPart
from coterie.report.schema.generation import GenerationPart
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


AFTERWARDS = {
    "damaged": "where quality matters",
    "heavily damaged": "before use",
}
"""When what has been repaired or healed already is to be healed, or healed longer."""


@dataclass(frozen=True, kw_only=True)
class GradedBy:
    """What a grade is read off, on held-out text.

    Attributes:
        nll: Loss of the smaller model, nats per token.
        ratio: Its perplexity over that of the full model.
        kl: Nats per token that its predictions diverge; None where it is not known.
        top1: Share of tokens on which both have the same first choice; None likewise.
        not_finite: Losses of the smaller model that were no number.
        generation: What both write; None where nothing could be written.
    """

    nll: float
    ratio: float
    kl: float | None
    top1: float | None
    not_finite: int
    generation: GenerationPart | None

    def told(self, vocabulary: int, done: frozenset[str] = frozenset()) -> tuple[str, str]:
        """The grade, and the sentence with its reason and what to do.

        Args:
            vocabulary: Tokens of the model: a uniform guess loses the logarithm of it.
            done: What was done after the cut: ``"repair"``, ``"heal"``.
        """
        guess = log(vocabulary)
        if self.nll >= guess:
            return BROKEN, (
                f"Broken: it predicts worse than a uniform guess ({self.nll:.2f} against"
                f" {guess:.2f} nats per token); cut less."
            )
        if self.not_finite:
            return BROKEN, (
                f"Broken: {self.not_finite} of its held-out losses are not finite, so it breaks"
                " down on some text; cut less."
            )
        # What is not known meets no bound but the last.
        kl, top1 = (inf if self.kl is None else self.kl), (0.0 if self.top1 is None else self.top1)
        grade = next(
            one for one in GRADES if self.ratio <= one.ratio and kl <= one.kl and top1 >= one.top1
        )
        agrees = (
            "" if self.top1 is None else f"agrees with the full model on {top1:.0%} of tokens, "
        )
        times = f"{self.ratio:#.3g}".rstrip(".")  # two stands as 2.00
        why = f"{agrees}perplexity ×{times}; {self._advice(grade, done)}"
        return grade.word, f"{grade.word.capitalize()}: {why}."

    def _advice(self, grade: Grade, done: frozenset[str]) -> str:
        heal = "heal it longer" if "heal" in done else "heal it"
        if self.generation is not None and self.generation.broken is not None:
            # What is usable by its perplexity alone must not be called so where it cannot write.
            mend = heal if done else "repair or heal it"
            return f"but what it writes has broken: {mend} before use"
        when = AFTERWARDS.get(grade.word)
        return grade.advice if not done or when is None else f"{heal} {when}"


def graded(part: VerdictPart, vocabulary: int) -> VerdictPart:
    """A verdict with its word and its sentence.

    Args:
        part: What was measured on held-out text.
        vocabulary: Tokens of the model.
    """
    measured = GradedBy(
        nll=part.after.nll,
        ratio=part.ratio,
        kl=part.kl,
        top1=part.top1,
        not_finite=part.not_finite,
        generation=part.generation,
    )
    grade, sentence = measured.told(vocabulary)
    return replace(part, grade=grade, sentence=sentence)


def graded_after(part: AfterPart, vocabulary: int) -> AfterPart:
    """A repair or a healing with its word and its sentence, by the thresholds of a cut.

    Args:
        part: What was done and measured; as it is where the full model was not at hand.
        vocabulary: Tokens of the model.
    """
    if part.full is None or part.beside is None or part.beside.model != "full":
        return part
    measured = GradedBy(
        nll=part.after.nll,
        ratio=part.after.perplexity / part.full.perplexity,
        kl=part.beside.kl,
        top1=part.beside.top1,
        not_finite=part.not_finite,
        generation=part.beside.generation,
    )
    grade, sentence = measured.told(vocabulary, frozenset([part.what]))
    return replace(part, grade=grade, sentence=sentence)
