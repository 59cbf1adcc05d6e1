"""Shapley values by regression: the additive game nearest to the true one, in Shapley's kernel.

Weigh every coalition but the empty and the grand one by (n − 1) / (C(n, s) s (n − s)); the additive
game that fits best, its worths adding up to v(N) − v(∅), has the Shapley values for its worths
(Charnes et al. 1988; Lundberg and Lee 2017, arXiv:1705.07874).
"""

from collections.abc import Sequence
from math import comb

import numpy as np
from scipy import linalg

from coterie.game.coalitions import Coalitions, Indices, Matrix, ValueFunction, Vector
from coterie.game.designs import NO_ONE, draw_subsets
from coterie.game.estimation.sampling import evaluate_bases
from coterie.game.estimation.semivalues import Estimate, placed


def kernel_masses(n_players: int) -> Vector:
    """Weight of all coalitions of one size together, sizes 1 … n − 1, adding up to 1."""
    # Shapley's kernel times the number of coalitions of a size: C(n, s) cancels.
    held = np.arange(1, n_players)
    masses = 1 / (held * (n_players - held))
    return masses / masses.sum()


def kernel_shapley(
    value: ValueFunction,
    n_players: int,
    *,
    draws: int,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> Estimate:
    """Estimate Shapley values by paired kernel regression; they add up exactly.

    Coalitions are drawn with their complements (Covert and Lee 2021, arXiv:2012.01536), size by
    size in proportion to the kernel, and small sizes are enumerated. Consistent: the bias falls as
    1 / draws, faster than the standard error, which is the regression's own (sandwich).

    Args:
        value: The true game; called once, with every distinct coalition needed.
        n_players: Players of the game, locked ones included.
        draws: Pairs in all, shared between the sizes; at least two for each that is not enumerated.
        locked: Players that stay.
        rng: Decides every draw.

    Examples:
        >>> from coterie.game.toy import majority
        >>> value, rng = majority(5).value, np.random.default_rng(0)
        >>> kernel_shapley(value, 5, draws=100, rng=rng).values.round(3).tolist()
        [0.2, 0.2, 0.2, 0.2, 0.2]
    """
    free = np.setdiff1d(np.arange(n_players), locked)
    n_free = len(free)
    ends = np.zeros((2, n_free), dtype=bool)
    ends[1] = True
    layers = _pairs_by_size(n_free, draws, rng)
    pairs = np.concatenate([members for members, _, _ in layers])
    asked = np.ones((2 + 2 * len(pairs), n_players), dtype=bool)
    asked[:, free] = np.concatenate([ends, pairs, ~pairs])
    values = evaluate_bases(value, asked)
    nobody, everyone = values[:2]
    # Gains over nobody: of the coalitions drawn, and of their complements.
    upper, lower = np.split(values[2:] - nobody, 2)
    # The constraint takes the last worth out: φ_n = v(N) − v(∅) − the others
    whole = everyone - nobody
    reduced = [_reduced(pairs, upper, whole), _reduced(~pairs, lower, whole)]
    weights = np.concatenate([np.full(len(m), mass / len(m)) for m, mass, _ in layers])
    normal = sum((x.T * weights) @ x for x, _ in reduced)
    fitted = linalg.solve(normal, sum((x.T * weights) @ y for x, y in reduced), assume_a="sym")
    pulls = sum(x * (y - x @ fitted)[:, None] for x, y in reduced)
    worths = np.append(fitted, whole - fitted.sum())
    freedom = np.full(n_free, max(1.0, len(pairs) - n_free))
    errors = _sandwich(normal, pulls, layers)
    return placed(Estimate("Shapley", worths, errors, freedom), n_players, free)


def _sandwich(
    normal: Matrix, pulls: Matrix, layers: Sequence[tuple[Coalitions, float, int]]
) -> Vector:
    """Standard errors of all worths, from how much each drawn pair pulls at the fit.

    Args:
        normal: Normal matrix of the regression.
        pulls: Residual times regressors, ``(n_pairs, n_free − 1)``.
        layers: The pairs size by size, with their mass and how many there are.
    """
    meat, start = np.zeros_like(normal), 0
    for members, mass, population in layers:
        part = pulls[start : start + len(members)]
        start += len(members)
        if len(members) < population:  # a size that is enumerated adds no sampling error
            share = 1 - len(members) / population
            meat += mass**2 * share / len(members) * np.cov(part, rowvar=False).reshape(meat.shape)
    # The last worth was taken out by the constraint; its error follows from the others'.
    n_fitted = len(normal)
    to_all = np.vstack([np.eye(n_fitted), -np.ones(n_fitted)])
    spread = to_all @ linalg.solve(normal, linalg.solve(normal, meat).T) @ to_all.T
    return np.sqrt(np.maximum(np.diagonal(spread), 0))


def _pairs_by_size(
    n_players: int, draws: int, rng: np.random.Generator
) -> list[tuple[Coalitions, float, int]]:
    """One of each pair of complements, by size: coalitions, their pairs' mass, population."""
    masses = kernel_masses(n_players)
    layers = []
    # Sizes up to the half: the other half are the complements.
    for size in range(1, n_players // 2 + 1):
        middle = 2 * size == n_players  # then player 0 says which of two complements is drawn
        share = float(masses[size - 1]) * (1 if middle else 2)
        wanted = max(2, round(draws * share))
        if middle:
            members = draw_subsets(n_players - 1, size - 1, wanted, 1, rng=rng)[0]
            members = np.insert(members, 0, True, axis=1)
        else:
            members = draw_subsets(n_players, size, wanted, 1, rng=rng)[0]
        layers.append((members, share, comb(n_players, size) // (2 if middle else 1)))
    return layers


def _reduced(coalitions: Coalitions, gains: Vector, whole: float) -> tuple[Matrix, Vector]:
    inside = coalitions.astype(np.float64)
    return inside[:, :-1] - inside[:, -1:], gains - inside[:, -1] * whole


def sliding_window_shapley(
    value: ValueFunction, n_players: int, *, window: int, locked: Indices = NO_ONE
) -> Estimate:
    """Each player's Shapley value in the game of its neighbours, everyone else kept.

    Sun et al. 2025, arXiv:2505.01731. Costs at most n · 2^(window − 1) coalitions, fewer as
    windows overlap. An exact value of another game: it has no sampling error, and differs from the
    Shapley value by whatever players far apart have to do with each other.

    Args:
        value: The true game; called once, with every distinct coalition needed.
        n_players: Players of the game, locked ones included.
        window: Players in a window, the one it is for included; up to 16.
        locked: Players that stay.
    """
    free = np.setdiff1d(np.arange(n_players), locked)
    window = min(window, len(free))
    if not 1 <= window <= 16:
        raise ValueError(f"a window of {window} players: choose 1 to 16")
    # All subsets of a window without its player, one bit each.
    within = np.arange(2 ** (window - 1))[:, None] >> np.arange(window - 1) & 1 > 0
    held = within.sum(axis=1)
    # Shapley weights of the small game of one window.
    weights = 1 / (window * np.array([comb(window - 1, int(size)) for size in held]))
    without = np.ones((len(free), len(within), n_players), dtype=bool)
    for place, player in enumerate(free):
        # At the ends a window is shifted inwards, never shortened.
        first = int(np.clip(place - window // 2, 0, len(free) - window))
        others = np.setdiff1d(free[first : first + window], [player])
        without[place][:, others] = within
        without[place][:, player] = False
    joined = without.copy()
    joined[np.arange(len(free)), :, free] = True
    asked = np.stack([joined, without]).reshape(-1, n_players)
    gains = np.subtract(*evaluate_bases(value, asked).reshape(2, len(free), -1))
    nothing = np.zeros(len(free))
    found = Estimate("sliding-window Shapley", gains @ weights, nothing, np.full(len(free), np.inf))
    return placed(found, n_players, free)
