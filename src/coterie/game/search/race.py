"""Choosing the best of many candidates without observing all of them on every text."""

from collections.abc import Callable

import numpy as np
from scipy.special import stdtrit

from coterie.game.coalitions import Coalitions
from coterie.game.search.ledger import Ledger

Judge = Callable[[Ledger, Coalitions], int]
"""Says which row of the candidates is best."""

STAGES = (1 / 8, 1 / 4, 1 / 2)
LEAST = 4  # sequences behind a standard error that may send a candidate home
RISK = 0.05  # chance, per race and stage, to send the best one home


def in_full(ledger: Ledger, candidates: Coalitions) -> int:
    """The best candidate, every one observed on every text."""
    return int(ledger.value(candidates).argmax())


def by_race(ledger: Ledger, candidates: Coalitions) -> int:
    """The best candidate by a race (Maron and Moore 1994): few texts first, then more.

    After each stage those go home that are worse than the leader beyond doubt: by the paired
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
