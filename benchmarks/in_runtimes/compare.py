"""What two runtimes made of one checkpoint, compared."""

from collections.abc import Mapping
from dataclasses import dataclass

TOLERANCE = 5e-3
"""Nats by which log-probabilities and losses in float32 may differ."""

NEAR = 2e-2
"""Nats between the two likeliest tokens under which rounding may decide."""


@dataclass(frozen=True)
class Outcome:
    """How a runtime read a checkpoint: `equal`, `differs` or `refused`, and by how much or why."""

    word: str
    remark: str


def outcome(expected: Mapping, found: Mapping) -> Outcome:
    """Compare with transformers.

    Args:
        expected: What transformers made of it.
        found: What the runtime made of it.
    """
    for one, of in ((expected, "transformers: "), (found, "")):
        if "refused" in one:
            return Outcome("refused", f"{of}{one['refused']}")
    greatest = 0.0
    for ours, theirs in zip(expected["generated"], found["generated"], strict=True):
        # llama.cpp tells half a character together with the next token: places no longer agree.
        told = theirs["logprobs"] if len(theirs["logprobs"]) == len(theirs["tokens"]) else []
        for place, token in enumerate(theirs["tokens"]):
            if token != ours["tokens"][place]:
                if ours["ahead"][place] < NEAR:
                    break
                return Outcome("differs", f"other tokens from number {place + 1} on")
            if told:
                greatest = max(greatest, abs(ours["logprobs"][place] - told[place]))
    for ours, theirs in zip(expected["losses"], found.get("losses", ()), strict=False):
        if abs(ours - theirs) > TOLERANCE:
            return Outcome("differs", f"loss {ours:.3f} → {theirs:.3f}")
        greatest = max(greatest, abs(ours - theirs))
    if greatest > TOLERANCE:
        return Outcome("differs", f"log-probabilities by {greatest:.2g}")
    return Outcome("equal", f"{greatest:.0e}")
