"""Where a checkpoint stands after all that was done to it, and whether to use it, in a sentence."""

from dataclasses import dataclass
from math import log

from coterie.report.schema.basics import TextPart
from coterie.report.schema.generation import GenerationPart
from coterie.report.schema.record import CheckpointRecord
from coterie.report.schema.verdict import PerplexityPart

NEAR, FAIR, FAR = 1.05, 1.25, 2.0
"""Ratios of perplexities: hardly worse up to the first, hardly usable beyond the last."""

ANSWERS = {"close": "Yes", "damaged": "With care", "heavily damaged": "Not yet", "broken": "No"}
"""Shall I use it? By the grade of a run's own verdict."""

CLEAR = 2.0
"""Standard errors from which a difference is believed."""


@dataclass(frozen=True)
class LastJudgement:
    """The full model against the checkpoint as it is now, on held-out text.

    Attributes:
        before: The full model.
        after: The checkpoint.
        text: What both were judged on; None where the record does not say.
        change: Difference of their losses, nats per token, with its paired standard error, where
            both were judged in one go.
        error: Of the change.
        not_finite: Held-out losses that were read as the floor.
        told: The verdict in words, where the run that judged has given it.
        grade: The same in one word.
        done: What was done after the cut.
        generation: What both write, where both have written.
    """

    before: PerplexityPart
    after: PerplexityPart
    text: TextPart | None
    change: float
    error: float | None
    not_finite: int
    told: str | None = None
    grade: str | None = None
    done: frozenset[str] = frozenset()
    generation: GenerationPart | None = None

    @property
    def broken(self) -> bool:
        """Whether what it writes has broken, whatever its perplexity says."""
        return self.generation is not None and self.generation.broken is not None

    @property
    def alike(self) -> bool:
        """Whether the two cannot be told apart, and could not be far apart either."""
        if self.error is None or abs(self.change) > CLEAR * self.error:
            return False
        return self.change + CLEAR * self.error <= log(NEAR)

    @property
    def unclear(self) -> bool:
        """Whether too little text was read to tell whether it is worse."""
        return self.error is not None and abs(self.change) <= CLEAR * self.error and not self.alike

    @property
    def ratio(self) -> float:
        """Perplexity after over perplexity before."""
        return self.after.perplexity / self.before.perplexity


def standing(record: CheckpointRecord) -> LastJudgement | None:
    """The last judgement that a record holds of its checkpoint; None where it holds none."""
    verdict, parts = record.verdict, record.after or []
    if parts:
        last = parts[-1]
        same = record.held_out is not None and record.held_out.sha256 == last.held_out.sha256
        # The full model was judged with the cut, or beside what was done last.
        full = verdict.before if verdict is not None and same else last.full
        alone = record.cut is None and len(parts) == 1
        if full is None and alone and last.what == "quantize":
            full = last.before  # nothing was cut: what was quantized is the full model
        if full is not None:
            change = last.after.nll - full.nll
            return LastJudgement(
                before=full,
                after=last.after,
                text=last.held_out,
                change=change,
                error=last.difference.error if full is last.before else None,
                not_finite=last.not_finite,
                done=frozenset(part.what for part in parts),
                told=last.sentence,
                grade=last.grade,
                generation=None if last.beside is None else last.beside.generation,
            )
    if verdict is None:
        return None
    change, error = verdict.difference.nll, verdict.difference.error
    return LastJudgement(
        before=verdict.before,
        after=verdict.after,
        text=record.held_out,
        change=change,
        error=error,
        not_finite=verdict.not_finite,
        told=verdict.sentence,
        grade=verdict.grade,
        generation=verdict.generation,
    )


def advice(found: LastJudgement) -> str:
    """One plain sentence: the verdict of the run, or what the perplexity says where it has none."""
    if found.told is not None:  # terminal and card say the same
        return found.told
    percent = f"{abs(found.ratio - 1):.1%}"
    if found.not_finite:
        return (
            f"Do not use it: {found.not_finite} of its held-out losses were not finite, so it"
            " breaks down on some text."
        )
    if found.broken:
        return "Not yet: what it writes has broken. Repair it, heal it, or cut less."
    if found.unclear:
        return (
            f"Usable with care: its perplexity is ×{found.ratio:.3g} on the held-out text, which is"
            " too little to tell whether it is worse: judge it on more (coterie evaluate)."
        )
    if found.alike:
        return (
            "Use it: on the held-out text it cannot be told from the full model (the difference is"
            " within two standard errors)."
        )
    if found.ratio < 1:
        return f"Use it: on the held-out text its perplexity is {percent} lower than before."
    if found.ratio <= NEAR:
        return f"Use it: on the held-out text its perplexity is {percent} higher than before."
    if found.ratio <= FAIR:
        more = "repair it (coterie repair)"
        if "repair" in found.done:
            more = "heal it" + (" longer" if "heal" in found.done else "") + " (coterie heal)"
        return (
            f"Usable with care: its perplexity is {percent} higher than before. Try your own tasks"
            f" first (coterie evaluate), or {more}."
        )
    if found.ratio <= FAR:
        return (
            f"Not yet: its perplexity is {percent} higher than before. Repair it or heal it first"
            " (coterie repair, coterie heal), or cut less."
        )
    return (
        f"Do not use it as it is: its perplexity is {found.ratio:.1f} times that of the full"
        " model. Cut less, or heal it for long."
    )


def answer(found: LastJudgement) -> str:
    """Shall I use it? ``Yes``, ``With care``, ``Not yet`` or ``No``, as `advice` explains."""
    if found.told is not None and found.grade in ANSWERS:
        graded = ANSWERS[found.grade]
        return "Not yet" if found.broken and graded != "No" else graded
    if found.not_finite:
        return "No"
    if found.broken:
        return "Not yet"
    if found.unclear:
        return "With care"
    if found.alike or found.ratio <= NEAR:
        return "Yes"
    if found.ratio <= FAIR:
        return "With care"
    return "Not yet" if found.ratio <= FAR else "No"
