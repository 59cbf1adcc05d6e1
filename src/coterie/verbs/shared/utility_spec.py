"""What a mix of utilities asks for, read from its text: names, measures, weights. No model."""

import re
from typing import Literal

from coterie.errors import UserError

ITEMS = 100
"""Items of a task that are asked; each is asked of every coalition."""

Quantity = Literal["nll", "kl", "top1"]
# The sign turns each into a value: higher is better, always.
TEXT_MEASURES: dict[str, tuple[Quantity, float, str]] = {
    "kl": ("kl", -1.0, "minus KL to the full model, nats per token"),
    "log-loss": ("nll", -1.0, "log-likelihood, nats per token"),
    "top1": ("top1", 1.0, "share of tokens predicted as the full model does"),
}
"""Utilities about the calibration text: what is read, its sign, and what it is called."""

Named = tuple[str, Literal["margin", "acc"]]
"""A utility's name, and how a task is scored; of a text the measure says nothing."""

# In messages: one example says more than a grammar.
EXAMPLE = "piqa=0.5,arc_easy:acc=0.25,kl=0.25"


def weights_of(spec: str) -> dict[Named, float]:
    """Name and measure of each utility → its weight; the weights sum to 1.

    Args:
        spec: As `EXAMPLE`: a task's margin unless ``:acc`` is said; of the calibration text ``kl``,
            ``log-loss`` or ``top1``; a single name needs no weight.

    Raises:
        UserError: a part that cannot be read, or is named twice.
    """
    found: dict[Named, float] = {}
    parts = [part.strip() for part in spec.split(",")]
    for part in parts:
        # NAME, then how a task is scored, then its weight.
        match = re.fullmatch(r"([\w.-]+)(?::(margin|acc))?(?:=([0-9.]+))?", part)
        number = _number(match[3]) if match and match[3] else 1.0
        if match is None or number <= 0 or (match[3] is None and len(parts) > 1):
            raise UserError(
                f"--utility '{part}' cannot be read: write NAME=WEIGHT, weights above 0, as in "
                f"{EXAMPLE}"
            )
        # A ratio of means is no mean over items, and a mix averages items.
        if match[1] == "ppl-ratio":
            raise UserError("ppl-ratio is no mean over texts: in a mix take log-loss or kl")
        key: Named = (match[1], "acc" if match[2] == "acc" else "margin")
        if key in found:
            raise UserError(f"--utility names {match[1]} twice: give it once, with its weight")
        found[key] = number
    # Weights are shares: 2 and 2 say the same as 0.5 and 0.5.
    total = sum(found.values())
    return {key: number / total for key, number in found.items()}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
