"""What guided search knows of its game: a process that grows with the ledger, at a bounded cost."""

from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Vector, sizes
from coterie.game.search.ledger import Ledger
from coterie.game.surrogates.growing import GrowingProcess
from coterie.game.surrogates.prior import Prior
from coterie.game.surrogates.process import ProcessPredictor, best_prior, standard

PRIOR_ROWS = 200  # coalitions on which the prior is chosen
CONDITIONED = 700  # and most of those that the process starts again with; it grows from there
AGAIN = 1.3  # growth of what is known before the prior is chosen anew


@dataclass(frozen=True)
class Scale:
    """How values are given to the process: as they are near the top, bent where a model has failed.

    A model that has lost its first layer may be worse by ten nats than one that has lost another.
    Such a coalition is never a candidate, but its raw value would hide all other differences.
    """

    top: float
    unit: float
    """The median distance from the top: up to about this far, values are given as they are."""

    @classmethod
    def of(cls, values: Vector) -> "Scale":
        """The scale of what is known."""
        top = float(values.max())
        return cls(top, float(np.median(top - values)) or 1.0)

    def level(self, values: Vector | float) -> Vector:
        """Increasing in the value, from minus two units to nothing at the top."""
        bent = np.log1p((self.top - np.asarray(values)) / self.unit)
        return -2 * self.unit * np.tanh(bent / 2)

    def slope(self, values: Vector | float) -> Vector:
        """Derivative of the level, 1 at the top."""
        gap = (self.top - np.asarray(values)) / self.unit
        return 1 / (1 + gap) / np.cosh(np.log1p(gap) / 2) ** 2


class Learner:
    """The process, conditioned on what a ledger knows, round by round.

    Between two choices of the prior only what is new is added. With the prior, the scale is set
    anew, and the coalitions are chosen anew if they have become many: the best of each size, and
    others at random.

    Args:
        ledger: What is known.
        rng: Draws the others.
    """

    def __init__(self, ledger: Ledger, *, rng: np.random.Generator) -> None:
        self.ledger, self._rng = ledger, rng
        self.scale = Scale(0.0, 1.0)
        self._prior: Prior | None = None
        self._process: GrowingProcess | None = None
        self._rows: Indices = np.zeros(0, dtype=np.intp)
        self._known = self._chosen_at = 0

    def learn(self) -> ProcessPredictor:
        """The process given all that the ledger knows by now."""
        coalitions, values, errors = self.ledger.estimates()
        process = self._process
        if process is None or self._outgrown(process, coalitions, values):
            process = self._begin(coalitions, values, errors)
        else:
            fresh = np.arange(self._known, len(values))
            process.add(coalitions[fresh], errors[fresh] * self.scale.slope(values[fresh]))
            self._rows = np.concatenate([self._rows, fresh])
        self._known = len(values)
        return process.given(self.scale.level(values[self._rows]))

    def _outgrown(self, process: GrowingProcess, coalitions: Coalitions, values: Vector) -> bool:
        if len(values) > AGAIN * self._chosen_at:
            return True
        # A coalition read on more texts may have joined in between: then rows have moved.
        if not np.array_equal(coalitions[self._rows], process.coalitions):
            return True
        return bool(values.max() > self.scale.top + self.scale.unit / 2)

    def _begin(self, coalitions: Coalitions, values: Vector, errors: Vector) -> GrowingProcess:
        self.scale = Scale.of(values)
        levels, blurs = self.scale.level(values), errors * self.scale.slope(values)
        rows = telling(coalitions, values, PRIOR_ROWS, rng=self._rng)
        self._prior = best_prior(coalitions[rows], levels[rows], blurs[rows], start=self._prior)
        self._rows = telling(coalitions, values, CONDITIONED, rng=self._rng)
        mean, spread = standard(levels[self._rows])
        process = GrowingProcess(self._prior, coalitions.shape[1], mean=mean, scale=spread)
        process.add(coalitions[self._rows], blurs[self._rows])
        self._process, self._chosen_at = process, len(values)
        return process


def telling(
    coalitions: Coalitions, values: Vector, most: int, *, rng: np.random.Generator
) -> Indices:
    """Rows to learn from: all, or the best of each size for one half and others at random.

    Args:
        coalitions: ``(n_coalitions, n_players)``.
        values: Their values, ``(n_coalitions,)``.
        most: How many rows at most.
        rng: Draws the others.
    """
    if len(values) <= most:
        return np.arange(len(values))
    # Ranks within a size: the values of different sizes do not compare.
    order = np.lexsort((-values, sizes(coalitions)))
    held = sizes(coalitions)[order]
    first = np.searchsorted(held, held)
    order = order[np.argsort(np.arange(len(held)) - first, kind="stable")]
    half = most // 2
    return np.sort(np.concatenate([order[:half], rng.permutation(order[half:])[: most - half]]))
