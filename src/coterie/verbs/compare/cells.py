"""One cell of a comparison: a method at one size and seed, and what judged it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from coterie.game.coalitions import Vector
from coterie.plain import Json
from coterie.texts.sets import TextSet
from coterie.verbs.compare.evaluator import judged_losses

CALIBRATION = "calibration"
"""The name of the calibration texts among those that judge."""


@dataclass(frozen=True)
class Where:
    """The place of a cell: which method, how many layers removed, which seed."""

    method: str
    removed: int
    seed: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """One method at one size and seed: what it chose, how each draw of it was judged, its cost.

    Attributes:
        where: Which method, size and seed.
        gap: Why there is no answer, in one line; None where there is one.
        answer: The answer as plain data; None where there is none.
        judged: The scores of each draw.
        played: What was noted when the method played: its cost, its remarks.
    """

    where: Where = field(kw_only=False)
    gap: str | None = None
    answer: Mapping[str, Json] | None = None
    judged: list[dict[str, Json]] = field(default_factory=list)
    played: Mapping[str, Json]

    def losses(self, text: str) -> Vector:
        """The mean over its draws of each sequence's loss, not yet read as finite."""
        return np.mean([judged_losses(one, text) for one in self.judged], axis=0)

    def coalitions(self) -> list[str]:
        """What is kept, a text a draw."""
        texts = [] if self.answer is None else self.answer["coalitions"]
        assert isinstance(texts, list)
        return [str(text) for text in texts]


@dataclass(frozen=True, eq=False)
class Frame:
    """What every row is compared with."""

    texts: Mapping[str, TextSet]
    floor: float
    full: Cell
    second: int

    def mean(self, cells: Sequence[Cell], text: str) -> tuple[Vector, int]:
        """Losses ``(n_sequences,)`` averaged over cells, and how many were read as the floor."""
        raw = np.array([judged_losses(one, text) for cell in cells for one in cell.judged])
        bad = ~np.isfinite(raw)
        # Every seed counts the same, however many draws its answer is the mean of.
        weights = np.array([1 / len(cell.judged) for cell in cells for _ in cell.judged])
        # Twice the loss of a uniform guess, not infinity: one overflow must not swallow a mean.
        finite = np.where(bad, self.floor, raw)
        return np.average(finite, axis=0, weights=weights), int(bad.sum())
