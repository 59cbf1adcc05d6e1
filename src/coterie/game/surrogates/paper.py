"""The paper's surrogate: a small two-layer network (Ding et al. 2026, arXiv:2602.07804).

Many replicates are trained side by side, see `coterie.game.surrogates.training`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector
from coterie.game.surrogates.training import (
    Floats,
    Lessons,
    Schedule,
    Trainer,
    chunks,
    cores,
    trained,
)

CELLS = 1 << 17  # activations per chunk of a query, for the same reason


@dataclass(frozen=True, eq=False)
class PaperPredictor:
    """A trained network; shapes ``(n_players, n_hidden)``, ``(n_hidden,)``, ``(n_hidden,)``, ()."""

    inner: Floats
    inner_bias: Floats
    outer: Floats
    outer_bias: np.float32

    def predict(self, coalitions: Coalitions) -> Vector:
        """Predicted values in (0, 1), ``(n_coalitions,)``."""
        values = np.empty(len(coalitions))
        for rows in chunks(len(coalitions), CELLS // len(self.outer)):
            before = coalitions[rows].astype(np.float32) @ self.inner + self.inner_bias
            values[rows] = self._out(np.maximum(before, 0) + np.exp(np.minimum(before, 0)))
        return values

    def marginals(self, base: Coalitions) -> Matrix:
        """f(m ∪ i) − f(m \\ i) for every base coalition m and player i, ``(n_base, n_players)``.

        The pre-activations of m are computed once; switching a player adds or takes away one row
        of weights, and as CELU(x) = max(x, 0) + min(eˣ, 1) − 1, its exponential is a product.
        """
        marginals = np.empty(base.shape)
        switch = np.stack([self.inner, -self.inner])  # of a player that is out, or in
        factor = np.exp(switch)

        def fill(part: slice) -> None:
            for rows in chunks(part.stop - part.start, max(1, CELLS // self.inner.size)):
                rows = slice(part.start + rows.start, part.start + rows.stop)
                towards = self._towards(base[rows], switch, factor)
                marginals[rows] = np.where(base[rows], -towards, towards)

        workers = cores()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(fill, chunks(len(base), -(-len(base) // workers))))
        return marginals

    def _towards(self, base: Coalitions, switch: Floats, factor: Floats) -> Floats:
        """f(m with i switched) − f(m), ``(n_base, n_players)``."""
        inside, players = base.astype(np.intp), np.arange(base.shape[1])
        before = base.astype(np.float32) @ self.inner + self.inner_bias
        with np.errstate(over="ignore"):  # an overflow is cut to 1 just below
            power = np.exp(before)
            here = self._out(np.maximum(before, 0) + np.minimum(power, 1))
            linear = switch[inside, players]
            linear += before[:, None, :]
            np.maximum(linear, 0, out=linear)
            curved = factor[inside, players]
            curved *= power[:, None, :]
            np.minimum(curved, 1, out=curved)
        linear += curved
        return self._out(linear) - here[:, None]

    def _out(self, celu_plus_one: Floats) -> Floats:
        logit = celu_plus_one @ self.outer + (self.outer_bias - self.outer.sum())
        return 1 / (1 + np.exp(-logit))


@dataclass(frozen=True)
class PaperNetwork:
    """The paper's network with its published settings.

    The settings were made for thousands of coalitions. An epoch takes ⌈n / batch⌉ steps, so with
    512 coalitions 300 epochs are only 600 steps, and the network stays close to its random start:
    contributions shrink and fidelity falls. `as_long_as_published` keeps the number of steps.

    Targets must lie in [0, 1], as the paper's PPL(full) / PPL(S) nearly always does: a sigmoid
    gives nothing else.
    """

    epochs: int = 300
    batch: int = 300
    rate: float = 0.008
    momentum: float = 0.9
    trainer: Trainer = field(default=trained, compare=False, repr=False)
    """Where it is trained: on the cores of this machine by default."""

    @classmethod
    def as_long_as_published(cls, n_coalitions: int, published_draws: int) -> "PaperNetwork":
        """The network trained on few coalitions for as many steps as the published draws take."""
        few, many = (-(-n // cls.batch) for n in (n_coalitions, published_draws))
        return cls(epochs=max(cls.epochs, cls.epochs * many // few))

    @property
    def name(self) -> str:
        """What a report calls it."""
        return "paper network"

    def fit(
        self, coalitions: Coalitions, targets: Vector, *, rng: np.random.Generator
    ) -> PaperPredictor:
        """Train one network on values ``(n_coalitions,)``.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: Their values, ``(n_coalitions,)``.
            rng: Starts the fit; a fit in closed form does not use it.
        """
        return self.refit(coalitions, targets[None], [np.arange(len(targets))], rngs=[rng])[0]

    def refit(
        self,
        coalitions: Coalitions,
        targets: Matrix,
        rows: Sequence[Indices],
        *,
        rngs: Sequence[np.random.Generator],
    ) -> list[PaperPredictor]:
        """Train one network per replicate, some side by side; see `Surrogate.refit`.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: ``(n_replicates, n_coalitions)``: each replicate may see other values.
            rows: Coalitions that each replicate sees, all of one length.
            rngs: One per replicate.
        """
        schedule = Schedule(self.epochs, self.batch, self.rate, self.momentum)
        lessons = Lessons.of(coalitions, targets, rows, rngs, schedule)
        weights = self.trainer(lessons)
        n_players = lessons.n_players
        return [
            PaperPredictor(
                np.ascontiguousarray(weights.inner[r, :, :n_players].T),
                weights.inner[r, :, n_players].copy(),
                weights.outer[r].copy(),
                weights.outer_bias[r, 0],
            )
            for r in range(len(rngs))
        ]
