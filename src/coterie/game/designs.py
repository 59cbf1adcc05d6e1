"""Which coalitions to evaluate: strata of one size each, whole games, orders of arrival.

A stratum holds coalitions of one size. Inside a stratum every coalition is equally likely, so a
plain mean over a stratum is an unbiased mean over all coalitions of its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from coterie.errors import CutError
from coterie.game.coalitions import Coalitions, Indices, distinct

NO_ONE: Indices = np.zeros(0, dtype=np.intp)
"""No locked players."""


@dataclass(frozen=True, eq=False)
class Stratum:
    """Distinct coalitions of one ``size``, counting every kept player, locked ones included.

    Given how many there are, they are a uniform subset of the ``population`` coalitions of this
    size: their plain mean is unbiased, and the finite-population correction applies.
    """

    size: int
    coalitions: Coalitions
    complete: bool
    """Every coalition of the size is here, so the stratum adds no sampling error."""
    population: int
    """How many coalitions of the size there are."""


def draw_strata(
    n_players: int,
    sizes: Sequence[int],
    draws: int,
    *,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
    budget: int | None = None,
) -> list[Stratum]:
    """Draw one stratum per distinct size, in the order given; locked players are always kept.

    Draws are made with replacement, in equal shares, and repeats are thrown away: what remains is
    a uniform subset of its size, so plain means over it stay unbiased. A stratum no larger than
    its share is enumerated.

    Args:
        n_players: Players of the game, locked ones included.
        sizes: Kept players of each stratum, locked ones included.
        draws: Draws in all, before repeats are thrown away.
        locked: Players that stay.
        rng: Decides every draw.
        budget: At most this many distinct coalitions in all. Each stratum gets an equal share;
            what one cannot use goes to the others. A larger budget keeps what a smaller one kept.

    Raises:
        CutError: A size is impossible with these locks, or the budget leaves a stratum empty.

    Examples:
        >>> strata = draw_strata(6, (5, 3), 40, rng=np.random.default_rng(0))
        >>> [(stratum.size, stratum.complete) for stratum in strata]
        [(5, True), (3, True)]
    """
    sizes = tuple(dict.fromkeys(int(size) for size in sizes))
    for size in sizes:
        check_size(n_players, size, locked)
    _check_enough(draws, len(sizes), "draws")
    if budget is not None:
        _check_enough(budget, len(sizes), "coalitions of budget")
    # What does not divide goes to the first strata, one draw each.
    shares = np.full(len(sizes), draws // len(sizes))
    shares[: draws % len(sizes)] += 1
    found = [
        _draw_stratum(n_players, size, int(share), locked, rng)
        for size, share in zip(sizes, shares, strict=True)
    ]
    if budget is None:
        return found
    # Strata smaller than their share leave the rest of it to the others.
    allowed = fair_shares(budget, np.array([len(stratum.coalitions) for stratum in found]))
    return [_shortened(stratum, int(most)) for stratum, most in zip(found, allowed, strict=True)]


def draw_distinct(
    n_players: int,
    size: int,
    draws: int,
    *,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> Stratum:
    """Draw exactly ``draws`` distinct coalitions of one size, or all of them if there are fewer.

    Args:
        n_players: Players of the game, locked ones included.
        size: Kept players, locked ones included.
        draws: How many to draw; all there are where they are fewer.
        locked: Players that stay.
        rng: Decides every draw.
    """
    check_size(n_players, size, locked)
    n_free, n_in = n_players - len(locked), size - len(locked)
    rows = draw_subsets(n_free, n_in, draws, 1, rng=rng)[0]
    return _stratum(n_players, size, rows, locked, comb(n_free, n_in))


def draw_subsets(
    n_players: int, size: int, draws: int, times: int, *, rng: np.random.Generator
) -> np.ndarray:
    """Several independent draws of distinct coalitions of one size, ``(times, n_rows, n_players)``.

    Each is a uniform subset of ``draws`` coalitions, or all of them where there are fewer.

    Args:
        n_players: Players of the game, locked ones included.
        size: Players inside a coalition.
        draws: Distinct coalitions of each draw.
        times: How many independent draws.
        rng: Decides every draw.
    """
    population = comb(n_players, size)
    # Three ways, by how much of the size is wanted: all, a large part, a small part.
    if population <= draws:
        return np.repeat(_all_of_size(n_players, size)[None], times, axis=0)
    if population <= 4 * draws:
        order = rng.random((times, population)).argsort(axis=1)[:, :draws]
        return _all_of_size(n_players, size)[order]
    drawn = []
    for _ in range(times):
        rows = _uniform(n_players, size, draws, rng)
        while len(first := distinct(rows)[0]) < draws:  # refusing repeats keeps the draw uniform
            more = _uniform(n_players, size, draws - len(first), rng)
            rows = np.concatenate([rows[first], more])
        drawn.append(rows)
    return np.stack(drawn)


def all_of_size(n_players: int, size: int, *, locked: Indices = NO_ONE) -> Coalitions:
    """Every coalition of one size that keeps the locked players.

    Args:
        n_players: Players of the game, locked ones included.
        size: Kept players, locked ones included.
        locked: Players that stay.
    """
    check_size(n_players, size, locked)
    n_free, n_in = n_players - len(locked), size - len(locked)
    rows = _all_of_size(n_free, n_in)
    return _stratum(n_players, size, rows, locked, len(rows)).coalitions


def enumerate_all(n_players: int) -> Coalitions:
    """Every coalition, ``(2 ** n_players, n_players)``: row r keeps player i where r has bit i."""
    if n_players > 24:
        raise CutError(f"{n_players} players have 2^{n_players} coalitions: enumerate at most 24")
    return (np.arange(2**n_players)[:, None] >> np.arange(n_players) & 1).astype(bool)


def draw_permutations(n_players: int, draws: int, *, rng: np.random.Generator) -> np.ndarray:
    """Orders of arrival, uniform and independent, shape ``(draws, n_players)``.

    Args:
        n_players: Players of the game, locked ones included.
        draws: How many orders.
        rng: Decides every draw.
    """
    return rng.permuted(np.tile(np.arange(n_players), (draws, 1)), axis=1)


def fair_shares(total: int, wanted: Indices) -> Indices:
    """Share ``total`` equally without giving anyone more than is ``wanted``; no unit is wasted."""
    shares = np.zeros_like(wanted)
    # Rounds of equal shares until all is given or nobody wants more.
    while total > 0 and (wanting := np.flatnonzero(shares < wanted)).size:
        each = max(1, total // len(wanting))
        for who in wanting[:total]:
            given = min(each, wanted[who] - shares[who], total)
            shares[who] += given
            total -= given
    return shares


def check_size(n_players: int, size: int, locked: Indices) -> None:
    """Refuse a coalition size that cannot be: below the locked players, or above all players.

    Args:
        n_players: Players of the game, locked ones included.
        size: Kept players, locked ones included.
        locked: Players that stay.
    """
    if not len(locked) <= size <= n_players:
        raise CutError(
            f"no coalition keeps {size} of {n_players} players with {len(locked)} locked: choose a "
            f"size from {len(locked)} to {n_players}, or lock fewer"
        )


def _check_enough(number: int, n_strata: int, what: str) -> None:
    if number < n_strata:
        raise CutError(
            f"{number} {what} leave one of {n_strata} strata empty: allow at least one each,"
            f" {n_strata}"
        )


def _draw_stratum(
    n_players: int, size: int, share: int, locked: Indices, rng: np.random.Generator
) -> Stratum:
    n_free, n_in = n_players - len(locked), size - len(locked)
    population = comb(n_free, n_in)
    if population <= share:
        rows = _all_of_size(n_free, n_in)[rng.permutation(population)]
    else:
        rows = _uniform(n_free, n_in, share, rng)
        rows = rows[distinct(rows)[0]]
    return _stratum(n_players, size, rows, locked, population)


def _stratum(
    n_players: int, size: int, rows: Coalitions, locked: Indices, population: int
) -> Stratum:
    coalitions = np.ones((len(rows), n_players), dtype=bool)
    # Drawn among the free players, then placed among all.
    coalitions[:, np.setdiff1d(np.arange(n_players), locked)] = rows
    return Stratum(size, coalitions, len(rows) == population, population)


def _shortened(stratum: Stratum, most: int) -> Stratum:
    coalitions = stratum.coalitions[:most]  # in random order, so the first are a uniform subset
    complete = len(coalitions) == stratum.population
    return Stratum(stratum.size, coalitions, complete, stratum.population)


def _uniform(n_players: int, size: int, draws: int, rng: np.random.Generator) -> Coalitions:
    """Coalitions of one size, uniform and independent."""
    rank = rng.random((draws, n_players)).argsort(axis=1)
    return rank < size  # ranks of a random order are themselves a random order


@lru_cache(maxsize=256)
def _all_of_size(n_players: int, size: int) -> Coalitions:
    members = np.array(list(combinations(range(n_players), size)), dtype=int)
    coalitions = np.zeros((comb(n_players, size), n_players), dtype=bool)
    np.put_along_axis(coalitions, members.reshape(len(coalitions), size), True, axis=1)
    coalitions.setflags(write=False)  # the cache hands out this very array
    return coalitions
