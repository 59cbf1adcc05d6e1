"""About how many layers each kind of method runs on a text: for plans, never for tables."""

from collections.abc import Callable, Sequence
from math import ceil, comb

from coterie.game.search.evolve import OFFSPRING, STAGES
from coterie.game.search.plain import descent_executed

Work = Callable[[int, Sequence[int]], float]
"""From the number of layers and the sizes that stay to layers run on every text."""


def few(n_layers: int, keeps: Sequence[int]) -> float:
    """A few passes of the full model."""
    return 3.0 * n_layers


def one_by_one(n_layers: int, keeps: Sequence[int]) -> float:
    """Every layer left out alone, what lies below it shared."""
    return n_layers * (n_layers + 1) / 2


def one_descent(n_layers: int, keeps: Sequence[int]) -> float:
    """One greedy descent to the smallest size."""
    return float(descent_executed(n_layers, min(keeps)))


def blocks(n_layers: int, keeps: Sequence[int]) -> float:
    """A descent among half-layers."""
    return descent_executed(2 * n_layers, 2 * min(keeps)) / 2


def evolution(n_layers: int, keeps: Sequence[int]) -> float:
    """The published number of generations, for every size."""
    read = OFFSPRING * STAGES[0][1] + (1 + STAGES[0][0]) * STAGES[1][1]
    return sum(ceil(keep * (n_layers - keep) / 1.5) * read * keep for keep in keeps)


def draws(n_layers: int, keeps: Sequence[int]) -> float:
    """Five hundred random coalitions."""
    return 512.0 * n_layers / 2


def every(n_layers: int, keeps: Sequence[int]) -> float:
    """Every coalition of every size."""
    return float(sum(comb(n_layers, keep) * keep for keep in keeps))
