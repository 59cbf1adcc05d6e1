"""Choosing the best of many candidates without observing all of them on every text."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from coterie.game.coalitions import Coalitions, sizes
from coterie.game.search.ledger import Ledger

Judge = Callable[[Ledger, Coalitions], int]
"""Says which row of the candidates is best."""

STAGES = (1 / 8, 1 / 4, 1 / 2)
LEAST = 4  # sequences behind a standard error by which a candidate may be dropped
RISK = 0.05  # chance, per race and stage, to drop the best one
SAFE_RISK = 0.01  # the same for all stages of all races of a descent together


def in_full(ledger: Ledger, candidates: Coalitions) -> int:
    """The best candidate, every one observed on every text."""
    return int(ledger.value(candidates).argmax())


def by_race(ledger: Ledger, candidates: Coalitions) -> int:
    """The best candidate by a race (Maron and Moore 1994): few texts first, then more.

    After each stage every candidate is dropped that is surely worse than the leader: by the paired
    difference on the same texts and Student's t, the risk shared between the candidates. Those who
    finish are observed on every text. The texts are taken in the ledger's order, which should mix
    documents.
    """
    running = np.arange(len(candidates))
    for stage in STAGES:
        n = int(np.ceil(stage * ledger.n_sequences))
        if n < LEAST or len(running) == 1:
            continue
        losses = ledger.losses(candidates[running], np.arange(n))
        behind = losses - losses[losses.mean(axis=1).argmin()]
        error = behind.std(axis=1, ddof=1) / np.sqrt(n)
        doubt = stdtrit(n - 1, 1 - RISK / len(running)) * error
        running = running[behind.mean(axis=1) <= doubt]
    return int(running[ledger.value(candidates[running]).argmax()])


@dataclass
class SafeRaces:
    """A judge for the races of one descent: it rarely errs, and never asks more than allowed.

    The best candidate on all texts is dropped in any of the races with a chance of 1 % at most: the
    bound on its paired difference (Student's t) shares this risk between all races, stages and
    candidates, and shrinks as the texts run out, since the mean over all of them is what is meant.
    The texts are taken in the ledger's order, which should mix documents.

    Attributes:
        races: How many races there will be.
        ahead: Σ of the candidates' sizes over the races to come, layers per text.
        most: Layer-sequences the ledger may hold after the last race.
        short: Whether some race had to end before those left in it were read on every text.
    """

    races: int
    ahead: int
    most: float = np.inf
    short: bool = field(default=False, init=False)

    def __call__(self, ledger: Ledger, candidates: Coalitions) -> int:
        """The best candidate; of a race that ends short the leader on the texts read."""
        n_sequences = ledger.n_sequences
        self.ahead -= int(sizes(candidates).sum())
        most = self.most - self.ahead * least_texts(n_sequences)  # the races to come can be run
        stops = _doubling(n_sequences)
        chance = SAFE_RISK / (self.races * max(len(stops) - 1, 1) * len(candidates))
        running, means, read = np.arange(len(candidates)), np.zeros(len(candidates)), 0
        for n in stops:
            cost = int(sizes(candidates[running]).sum()) * (n - read)
            if ledger.layer_sequences + cost > most:
                self.short = True
                break
            losses = ledger.losses(candidates[running], np.arange(n))
            means, read = losses.mean(axis=1), n
            behind = losses - losses[means.argmin()]
            error = behind.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(running))
            doubt = stdtrit(max(n - 1, 1), 1 - chance) * error * np.sqrt(1 - n / n_sequences)
            stays = behind.mean(axis=1) <= doubt
            running, means = running[stays], means[stays]
        return int(running[means.argmin()])


def least_texts(n_sequences: int) -> int:
    """Sequences that even a race cut short reads."""
    return min(LEAST, n_sequences)


def _doubling(n_sequences: int) -> list[int]:
    """How many sequences are read after each stage: 4, 8, 16 and so on, at last all."""
    stops, n = [], LEAST
    while n < n_sequences:
        stops.append(n)
        n *= 2
    return [*stops, n_sequences]
