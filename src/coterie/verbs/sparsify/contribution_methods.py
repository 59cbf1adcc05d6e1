"""The ways to what layers contribute, by name: windows, all coalitions, or a surrogate."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Indices, ValueFunction, Vector
from coterie.game.designs import enumerate_all
from coterie.game.estimation.regression import kernel_shapley, sliding_window_shapley
from coterie.game.estimation.semivalues import exact, placed, shapley
from coterie.sparsity.bounds import SparsityError
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.sparsify.request import SparsifyRequest

EXACT_UP_TO = 10
"""Players for which every coalition is asked unless another method is named."""

MOST_PLAYERS_EXACTLY = 16
"""Players beyond which exact values are refused."""

PER_PLAYER = 32
"""Coalitions per player that the surrogate is fitted to, unless a budget says otherwise."""

_RATIO = "shares of the full model's 1/perplexity"

Locked = tuple[int, ...]
"""Players that stay."""

Values = Callable[[ValueFunction], Vector]
"""Turns a value function into contributions ``(n_players,)``, NaN for players that stay."""


@dataclass(frozen=True, eq=False)
class ContributionMethod:
    """A way to contributions.

    Attributes:
        how: What will be computed, in words.
        values: The computation.
        in_nats: Whether a coalition is worth minus its loss, instead of a share of 1/perplexity.
    """

    how: str
    values: Values
    in_nats: bool = False


def contribution_method(
    request: SparsifyRequest, n_players: int, locked: Locked
) -> ContributionMethod:
    """What will be computed, in words, and the computation.

    Args:
        request: Says which method, and its window or budget.
        n_players: Players of the game.
        locked: Those that stay.

    Raises:
        SparsityError: too few players or coalitions, or too many for exact values.
    """
    n_free = n_players - len(locked)
    kind = _kind(request, n_free)
    if n_free < kind.least_free:
        raise SparsityError(
            f"{len(locked)} of {n_players} players are locked and {n_free} may be cut, too few to"
            " compare: lock fewer (--lock), or give --allocation uniform"
        )
    return kind.make(request, n_players, np.array(locked, dtype=np.intp))


def _window(request: SparsifyRequest, n_players: int, locked: Indices) -> ContributionMethod:
    # A small model may have fewer players than the window is wide.
    width = min(request.window, n_players - len(locked))

    def values(value: ValueFunction) -> Vector:
        return sliding_window_shapley(value, n_players, window=width, locked=locked).values

    how = f"Shapley values in sliding windows of {width}, nats per token"
    return ContributionMethod(how, values, in_nats=True)


def _exactly(request: SparsifyRequest, n_players: int, locked: Indices) -> ContributionMethod:
    n_free = n_players - len(locked)
    if n_free > MOST_PLAYERS_EXACTLY:
        raise SparsityError(
            f"exact contributions of {n_free} players take 2^{n_free} coalitions, and are computed "
            f"for at most {MOST_PLAYERS_EXACTLY} players: give --contributions surrogate or window"
        )

    def values(value: ValueFunction) -> Vector:
        free = np.setdiff1d(np.arange(n_players), locked)
        everyone = np.ones((2 ** len(free), n_players), dtype=bool)
        # Locked players stay in every coalition: the game is played by the others.
        everyone[:, free] = enumerate_all(len(free))
        return placed(exact(value(everyone), shapley(len(free))), n_players, free).values

    return ContributionMethod(f"exact Shapley values, {_RATIO}", values)


def _by_surrogate(request: SparsifyRequest, n_players: int, locked: Indices) -> ContributionMethod:
    n_free = n_players - len(locked)
    budget, fewest = request.budget or PER_PLAYER * n_free, 4 * n_free + 2
    if budget < fewest:
        raise SparsityError(
            f"--budget {budget} is too small for a surrogate of {n_free} players: give at least"
            f" {fewest} coalitions, or --contributions window"
        )
    draws = (budget - 2) // 2  # in pairs, beside the full and the empty coalition
    # A fresh generator for each call: the plan and the game must draw the same coalitions.
    seed = np.random.SeedSequence([request.seed, 5])

    def values(value: ValueFunction) -> Vector:
        rng = np.random.default_rng(seed)
        return kernel_shapley(value, n_players, draws=draws, locked=locked, rng=rng).values

    return ContributionMethod("Shapley values of an additive surrogate", values)


@dataclass(frozen=True)
class _Kind:
    """How a method is made, and the fewest players that it can tell apart."""

    make: Callable[[SparsifyRequest, int, Indices], ContributionMethod]
    least_free: int = 1


_KINDS = {
    "window": _Kind(_window),
    "exact": _Kind(_exactly),
    "surrogate": _Kind(_by_surrogate, least_free=2),
}


def check_contributions(request: SparsifyRequest, prepared: Prepared) -> None:
    """Refuse contributions that cannot be had, before a weight is loaded.

    Raises:
        SparsityError: too few players or coalitions, or too many for exact values; or the weights
            are packed, so that no zero can be put among them.
    """
    if prepared.source.raw_config().get("quantization_config") is not None:
        raise SparsityError(
            f"{prepared.source.name!r} is quantized: sparsify the checkpoint it was made from, then"
            " quantize"
        )
    if request.rule().contributions:
        contribution_method(request, prepared.n_players, prepared.locked)


def _kind(request: SparsifyRequest, n_free: int) -> _Kind:
    """The method that the rule or the user names; without one, exact values while they are few."""
    named = request.rule().contributions_by or request.measuring()
    if named in _KINDS:
        return _KINDS[named]
    # A budget that all coalitions fit in makes exact values possible.
    most = 2**EXACT_UP_TO if request.budget is None else request.budget
    return _KINDS["exact" if n_free <= EXACT_UP_TO and 2**n_free <= most else "surrogate"]
