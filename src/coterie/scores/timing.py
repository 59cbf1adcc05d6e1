"""How fast a model was, round by round, under which load."""

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Load:
    """What is asked of a model at once."""

    batch: int = 1
    """Texts side by side."""
    context: int = 128
    """Tokens each text starts with."""
    new_tokens: int = 32
    """Tokens generated after them, at least 2."""


@dataclass(frozen=True)
class Timing:
    """One figure per round, and what to print of them."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between these lies the middle half of the rounds."""
        low, high = np.quantile(self.rounds, [0.25, 0.75])
        return float(low), float(high)

    @property
    def error(self) -> float | None:
        """Standard error of the median, as if rounds were normal; None of a single round."""
        if len(self.rounds) < 2:
            return None
        # The median of n normal numbers spreads by sqrt(π / 2) of what their mean does.
        return float(1.2533 * np.std(self.rounds, ddof=1) / np.sqrt(len(self.rounds)))

    def over(self, other: "Timing") -> "Timing":
        """The ratio to another model's timing, round by round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return Timing(tuple(mine / theirs for mine, theirs in pairs))


@dataclass(frozen=True)
class Speed:
    """The times, in seconds, and the memory, in bytes, of one model under one load."""

    load: Load
    prefill: Timing
    """One forward pass over the whole context."""
    first_token: Timing
    """From the call of ``generate`` to its first token."""
    next_token: Timing
    """From one token to the next, with the cache; the median of a round's tokens."""
    weight_bytes: int
    extra_bytes: int | None
    """Peak above what was allocated before: states, cache, logits. None where it cannot be read."""

    @property
    def prefill_tokens_per_second(self) -> float:
        return self.load.batch * self.load.context / self.prefill.median

    @property
    def decode_tokens_per_second(self) -> float:
        return self.load.batch / self.next_token.median
