"""Sampling that watches itself: coalitions go where they help, and stop when the cut is settled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from scipy.special import stdtrit

from coterie.game.coalitions import Coalition, Indices, Matrix, ValueFunction
from coterie.game.designs import NO_ONE, Stratum, check_size, draw_distinct, fair_shares
from coterie.game.sampling import true_gains
from coterie.game.search.simple import cut_lowest
from coterie.game.semivalues import Estimate, over_strata

PILOT = 4  # bases per size before anything is decided


@dataclass(frozen=True, eq=False)
class Adapted:
    """An estimate whose sampling was steered, and where it ended."""

    estimate: Estimate
    cut: Coalition
    """Keeps the players of the highest contributions."""
    settled: bool
    """Whether sampling stopped because the cut could be told, not because the budget was spent."""
    n_base: tuple[int, ...]
    """Base coalitions spent on each size."""
    covers: str
    """What the intervals of ``estimate`` can be held to."""


def adaptive_semivalue(
    value: ValueFunction,
    n_players: int,
    bases: Sequence[int],
    keep: int,
    *,
    budget: int,
    confidence: float = 0.95,
    locked: Indices = NO_ONE,
    rng: np.random.Generator,
) -> Adapted:
    """The paper's semivalue of the true game, sampled until it is settled whom to cut.

    After a pilot, each round doubles the base coalitions and shares them between the sizes in
    proportion to how much the players at the edge of the cut still vary there (Neyman 1934). The
    cut is settled when every player lies on its side of the edge with the given confidence, the
    risk shared between players (Bonferroni) and rounds (half the risk on the first look, a quarter
    on the second, and so on: a sequential bound).

    Args:
        bases: Sizes of the base coalitions.
        keep: Size of the cut that is to be settled.
        budget: Base coalitions in all; each costs 1 + n evaluations before repeats.
    """
    for size in (*bases, keep):
        check_size(n_players, size, locked)
    free = np.setdiff1d(np.arange(n_players), locked)
    most = [comb(len(free), size - len(locked)) for size in bases]
    pools = [
        draw_distinct(n_players, size, min(budget, whole), locked=locked, rng=rng).coalitions
        for size, whole in zip(bases, most, strict=True)
    ]
    for pool in pools:
        rng.shuffle(pool)  # a pool that is all of its size comes in order
    gains = [np.zeros((0, n_players)) for _ in bases]
    wanted = np.minimum([min(PILOT, budget // len(bases))] * len(bases), most)
    look = 0
    while True:
        look += 1
        for k, pool in enumerate(pools):
            fresh = pool[len(gains[k]) : wanted[k]]
            if len(fresh):
                found = np.full(fresh.shape, np.nan)
                found[:, free] = true_gains(value, fresh, free)[2]
                gains[k] = np.concatenate([gains[k], found])
        strata = [
            Stratum(size, pool[: len(done)], len(done) == whole, whole)
            for size, pool, done, whole in zip(bases, pools, gains, most, strict=True)
        ]
        estimate = over_strata(np.concatenate(gains), strata, locked)
        risk = (1 - confidence) / 2**look
        cut = cut_lowest(estimate.values, keep, locked=locked)
        settled = is_settled(estimate, cut, 1 - risk, locked=locked)
        spent = int(wanted.sum())
        room = np.array([len(pool) for pool in pools]) - wanted
        if settled or spent >= budget or not room.any():
            break
        more = _shares(min(spent, budget - spent), gains, room, estimate, cut, free)
        wanted = wanted + more
    return Adapted(
        replace(estimate, name="stratified semivalue, adaptive"),
        cut,
        settled,
        tuple(int(n) for n in wanted),
        "the cut, at the confidence asked; single intervals are not held to theirs, as sampling"
        " stopped when the data said so",
    )


def is_settled(
    estimate: Estimate, cut: Coalition, confidence: float, *, locked: Indices = NO_ONE
) -> bool:
    """Whether each player is on its side of the edge between kept and cut, all at once.

    The edge lies midway between the lowest kept and the highest cut contribution.
    """
    free = np.setdiff1d(np.arange(len(cut)), locked)
    kept, gone = free[cut[free]], free[~cut[free]]
    if not len(kept) or not len(gone):
        return True
    edge = (estimate.values[kept].min() + estimate.values[gone].max()) / 2
    away = np.abs(estimate.values[free] - edge)
    reach = stdtrit(np.minimum(estimate.freedom[free], 1e9), 1 - (1 - confidence) / len(free))
    return bool((away >= reach * estimate.errors[free]).all())


def _shares(
    total: int,
    gains: Sequence[Matrix],
    room: Indices,
    estimate: Estimate,
    cut: Coalition,
    free: Indices,
) -> Indices:
    """How many more bases each size gets: by the spread there of the players at the edge."""
    kept, gone = free[cut[free]], free[~cut[free]]
    edge = (estimate.values[kept].min() + estimate.values[gone].max()) / 2
    doubt = np.abs(estimate.values[free] - edge) / np.maximum(estimate.errors[free], 1e-300)
    close = free[np.argsort(doubt)[: max(2, len(free) // 4)]]
    spread = np.array([np.sqrt(g[:, close].var(axis=0).mean()) for g in gains])
    spread = np.where(room > 0, spread + 1e-12, 0)
    ideal = np.floor(total * spread / spread.sum()).astype(np.intp)
    shares = np.minimum(ideal, room)
    return shares + fair_shares(total - int(shares.sum()), room - shares)
