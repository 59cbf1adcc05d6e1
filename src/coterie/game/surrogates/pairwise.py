"""A pairwise surrogate: every removed player costs something, and so does every removed pair.

v(S) ≈ a + Σ b_i z_i + Σ c_ij z_i z_j with z = 1 where a player is cut: a 2-additive game, fitted by
ridge regression in closed form. Counting what is cut, not what is kept, keeps the columns nearly
orthogonal near the top of the lattice, where language models are pruned. The penalty is chosen by
generalised cross-validation (Golub, Heath and Wahba 1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector

PENALTIES = np.logspace(-7, 2, 46)  # relative to the mean eigenvalue of the design


@dataclass(frozen=True, eq=False)
class PairwisePredictor:
    """A fitted 2-additive game of the players that are cut."""

    constant: float
    single: Vector
    """Value gained by cutting one player alone, ``(n_players,)``."""
    pairs: Matrix
    """What two cuts gain together beyond their own, symmetric, diagonal zero, ``(n, n)``."""
    penalty: float
    """The ridge penalty that cross-validation chose."""

    def predict(self, coalitions: Coalitions) -> Vector:
        """Predicted values, ``(n_coalitions,)``."""
        cut = (~coalitions).astype(np.float64)
        pairs = ((cut @ self.pairs) * cut).sum(axis=1) / 2
        return self.constant + cut @ self.single + pairs

    def marginals(self, base: Coalitions) -> Matrix:
        """f(m ∪ i) − f(m \\ i) for every base coalition m and player i, ``(n_base, n_players)``."""
        return -(self.single + (~base).astype(np.float64) @ self.pairs)


@dataclass(frozen=True)
class Pairwise:
    """Ridge regression on single players and pairs, its penalty cross-validated."""

    @property
    def name(self) -> str:
        """What a report calls it."""
        return "pairwise ridge"

    def fit(
        self, coalitions: Coalitions, targets: Vector, *, rng: np.random.Generator
    ) -> PairwisePredictor:
        """Fit values ``(n_coalitions,)`` in closed form; ``rng`` is not used.

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
    ) -> list[PairwisePredictor]:
        """Fit one predictor per replicate; see `Surrogate.refit`.

        Args:
            coalitions: ``(n_coalitions, n_players)``.
            targets: ``(n_replicates, n_coalitions)``: each replicate may see other values.
            rows: Coalitions that each replicate sees, all of one length.
            rngs: One per replicate.
        """
        features = pair_features(coalitions)
        counts = [np.bincount(chosen, minlength=len(coalitions)) for chosen in rows]
        return [
            _ridge(features, values, count.astype(np.float64), coalitions.shape[1])
            for values, count in zip(targets, counts, strict=True)
        ]


def pair_features(coalitions: Coalitions) -> Matrix:
    """Which players are cut, then which pairs are, ``(n_coalitions, n(n+1)/2)`` of 0 and 1."""
    n_coalitions, n_players = coalitions.shape
    features = np.empty((n_coalitions, n_players * (n_players + 1) // 2))
    cut = features[:, :n_players]
    cut[...] = ~coalitions
    start = n_players
    # Slices, in the order of np.triu_indices: many times faster than picking columns.
    for player in range(n_players - 1):
        stop = start + n_players - 1 - player
        np.multiply(cut[:, [player]], cut[:, player + 1 :], out=features[:, start:stop])
        start = stop
    return features


def _ridge(features: Matrix, targets: Vector, counts: Vector, n_players: int) -> PairwisePredictor:
    used = counts > 0
    # Repeated rows weigh more: a bootstrap costs no more than the rows it has.
    share = counts[used] / counts.sum()
    centre, mean = share @ features[used], share @ targets[used]
    scale = np.sqrt(share * used.sum())[:, None]
    design = (features[used] - centre) * scale
    wanted = (targets[used] - mean) * scale[:, 0]
    penalty, slopes = _solve(design, wanted)
    pairs = np.zeros((n_players, n_players))
    pairs[np.triu_indices(n_players, 1)] = slopes[n_players:]
    constant = float(mean - centre @ slopes)
    return PairwisePredictor(constant, slopes[:n_players], pairs + pairs.T, penalty)


def _solve(design: Matrix, wanted: Vector) -> tuple[float, Vector]:
    """The penalty that generalised cross-validation likes best, and the coefficients under it."""
    n_rows, n_columns = design.shape
    wide = n_columns > n_rows
    gram = design @ design.T if wide else design.T @ design
    squares, vectors = linalg.eigh(gram)
    kept = squares > squares[-1] * 1e-12
    squares, vectors = squares[kept], vectors[:, kept]
    if not len(squares):  # every coalition alike: nothing but the mean can be fitted
        return np.inf, np.zeros(n_columns)
    roots = np.sqrt(squares)
    left = vectors.T @ (wanted if wide else design.T @ wanted)
    inner = left if wide else left / roots  # coordinates of the targets along the design
    penalties = PENALTIES * squares.mean()
    shrunk = penalties[:, None] / (squares + penalties[:, None])
    residual = wanted @ wanted - inner @ inner + (shrunk**2 * inner**2).sum(axis=1)
    freedom = n_rows - 1 - (1 - shrunk).sum(axis=1)
    loss = np.where(freedom > 0, residual / np.maximum(freedom, 1e-9) ** 2, np.inf)
    penalty = float(penalties[loss.argmin()])
    coordinates = inner * roots / (squares + penalty)
    slopes = design.T @ (vectors @ (coordinates / roots)) if wide else vectors @ coordinates
    return penalty, slopes
