"""The paper's surrogate: a small two-layer network, here in numpy, many replicates at once.

Linear(L, 2L) → CELU → Linear(2L, 1) → Sigmoid, squared error, SGD with momentum (Ding et al. 2026,
arXiv:2602.07804, and its public code). Replicates are trained side by side by batched products.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector

Floats = NDArray[np.float32]
"""Single precision: twice the speed, and the targets are known to three digits."""

SIDE_BY_SIDE = 6  # replicates trained together: their activations still fit the cache
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
        for rows in _chunks(len(coalitions), CELLS // len(self.outer)):
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
            for rows in _chunks(part.stop - part.start, max(1, CELLS // self.inner.size)):
                rows = slice(part.start + rows.start, part.start + rows.stop)
                towards = self._towards(base[rows], switch, factor)
                marginals[rows] = np.where(base[rows], -towards, towards)

        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(fill, _chunks(len(base), -(-len(base) // workers))))
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
        inputs = coalitions.astype(np.float32)

        def train(some: slice) -> list[PaperPredictor]:
            chosen = np.stack(list(rows[some]))
            known = np.take_along_axis(targets[some], chosen, axis=1).astype(np.float32)
            return self._train(inputs, chosen, known, rngs[some])

        workers = os.cpu_count() or 1  # numpy lets go of the interpreter lock while it computes
        together = max(1, min(SIDE_BY_SIDE, -(-len(rows) // workers)))
        with ThreadPoolExecutor(workers) as pool:
            parts = pool.map(train, _chunks(len(rows), together))
            return [predictor for part in parts for predictor in part]

    def _train(
        self,
        inputs: Floats,
        chosen: Indices,
        targets: Floats,
        rngs: Sequence[np.random.Generator],
    ) -> list[PaperPredictor]:
        weights = _initial(inputs.shape[1], rngs)
        speeds = [np.zeros_like(weight) for weight in weights]
        for epoch in range(self.epochs):
            rate = np.float32(self.rate * 0.1 ** (3 * epoch // self.epochs))  # ×0.1 at each third
            order = np.stack([rng.permutation(chosen.shape[1]) for rng in rngs])
            where = np.take_along_axis(chosen, order, axis=1)
            wanted = np.take_along_axis(targets, order, axis=1)
            for step in _chunks(chosen.shape[1], self.batch):
                slopes = _slopes(weights, inputs[where[:, step]], wanted[:, step])
                for weight, speed, slope in zip(weights, speeds, slopes, strict=True):
                    speed *= np.float32(self.momentum)
                    speed += slope
                    weight -= rate * speed
        inner, inner_bias, outer, outer_bias = weights
        return [
            PaperPredictor(inner[r], inner_bias[r, 0], outer[r, :, 0], outer_bias[r, 0, 0])
            for r in range(len(rngs))
        ]


def _initial(n_players: int, rngs: Sequence[np.random.Generator]) -> list[Floats]:
    """Weights as torch starts a Linear layer: uniform within ± 1 / √(inputs), biases too."""
    shapes = [(n_players, 2 * n_players), (1, 2 * n_players), (2 * n_players, 1), (1, 1)]
    fans = [n_players, n_players, 2 * n_players, 2 * n_players]
    drawn = [[rng.uniform(-1, 1, size=shape) for shape in shapes] for rng in rngs]
    return [
        np.stack([one[k] / np.sqrt(fans[k]) for one in drawn]).astype(np.float32)
        for k in range(len(shapes))
    ]


def _slopes(weights: Sequence[Floats], inputs: Floats, targets: Floats) -> tuple[Floats, ...]:
    """Gradients of the mean squared error; all arrays lead with the replicates' axis.

    Args:
        inputs: ``(n_replicates, n_batch, n_players)``.
        targets: ``(n_replicates, n_batch)``.
    """
    inner, inner_bias, outer, outer_bias = weights
    across = inputs.transpose(0, 2, 1)
    # The batch runs along the last axis: long rows for the elementwise passes, which cost most.
    before = np.matmul(inner.transpose(0, 2, 1), across)
    before += inner_bias.transpose(0, 2, 1)
    bend = np.minimum(before, 0)
    np.exp(bend, out=bend)  # CELU's own derivative; CELU itself is max(x, 0) + bend − 1
    hidden = np.maximum(before, 0, out=before)
    hidden += bend
    along = outer.transpose(0, 2, 1)
    logit = np.matmul(along, hidden)[:, 0] + (outer_bias - outer.sum(1, keepdims=True))[:, 0]
    output = 1 / (1 + np.exp(-logit))
    error = (2 / targets.shape[1]) * (output - targets) * output * (1 - output)
    error = error[:, None, :].astype(np.float32)
    total = error.sum(axis=2, keepdims=True)
    outer_slope = np.matmul(hidden, error.transpose(0, 2, 1)) - total
    # Errors scale the few inputs and outer weights the slopes, instead of every activation.
    inner_slope = np.matmul(bend, inputs * error.transpose(0, 2, 1))
    inner_slope *= outer
    bias_slope = np.matmul(bend, error.transpose(0, 2, 1))
    bias_slope *= outer
    return inner_slope.transpose(0, 2, 1), bias_slope.transpose(0, 2, 1), outer_slope, total


def _chunks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, max(1, size)))
