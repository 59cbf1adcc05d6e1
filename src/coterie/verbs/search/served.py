"""A search among the cuts that every runtime that was asked for reads rightly (`--serve`)."""

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions, Vector, distinct, sizes
from coterie.game.search.ledger import Ledger
from coterie.models.runtimes.serving import Serving

ASKED = 48
"""Readable cuts of a size that are asked for beside what the search method asks, at most."""


def play_served(ledger: Ledger, serving: Serving, keep: int, locked: tuple[int, ...]) -> None:
    """Ask for readable cuts of a size, beginning with those that resemble what is known to be good.

    The starts keep what is costly to lose, by single absences and by the best coalitions known; the
    best of them is improved by exchanging one layer that went for one that stays, or by moving to
    the readable cut nearest to such an exchange.

    Args:
        ledger: The account that asks the game.
        serving: Which cuts are readable.
        keep: Layers that stay.
        locked: Layers that must.
    """
    starts = _starts(ledger, serving, keep, locked)
    if not len(starts):
        return
    before = ledger.n_asked
    ledger.value(starts)  # few: at most eight
    while ledger.n_asked - before < ASKED:
        best, value = _best(ledger, serving, keep)
        near = _neighbours(best, serving, locked)
        near = near[~ledger.asked(near)][: ASKED - (ledger.n_asked - before)] if len(near) else near
        if not len(near):
            return
        ledger.value(near)
        if _best(ledger, serving, keep)[1] <= value:
            return


def _starts(ledger: Ledger, serving: Serving, keep: int, locked: tuple[int, ...]) -> Coalitions:
    known, values = ledger.known()
    weights = [np.linspace(1.0, 1.1, ledger.n_players)]
    alone = sizes(known) == ledger.n_players - 1
    if alone.any():
        # What is lost where a layer alone is absent; the rest is taken to be worth as much as most.
        costs = np.full(ledger.n_players, np.median(-values[alone]))
        costs[np.argmin(known[alone], axis=1)] = -values[alone]
        weights.append(costs - costs.min())
    order = np.argsort(-values, kind="stable")
    near = order[np.abs(sizes(known)[order] - keep) <= 1][:6]
    weights += [known[row].astype(float) for row in near]
    found = [serving.best(one, keep, locked) for one in weights]
    rows = [_row(one, ledger.n_players) for one in found if one is not None]
    return _distinct(rows, ledger.n_players)


def _neighbours(best: Coalition, serving: Serving, locked: tuple[int, ...]) -> Coalitions:
    """Readable cuts that one exchange leads to; one that is not readable leads to the nearest."""
    keep, found = int(best.sum()), []
    for gone in np.flatnonzero(best):
        if gone in locked:
            continue
        weights: Vector = best.astype(float)
        weights[gone] = -2.0
        kept = serving.best(weights, keep, locked)
        if kept is not None:
            found.append(_row(kept, len(best)))
        for back in np.flatnonzero(~best):
            swapped = best.copy()
            swapped[gone], swapped[back] = False, True
            found.append(swapped)
    rows = _distinct(found, len(best))
    return rows[serving.allowed(rows)] if len(rows) else rows


def _best(ledger: Ledger, serving: Serving, keep: int) -> tuple[Coalition, float]:
    coalitions, values = ledger.known(keep)
    values = np.where(serving.allowed(coalitions), values, -np.inf)
    return coalitions[int(values.argmax())], float(values.max())


def _row(kept: tuple[int, ...], n_players: int) -> Coalition:
    return np.isin(np.arange(n_players), kept)


def _distinct(rows: list[Coalition], n_players: int) -> Coalitions:
    whole = np.array(rows, dtype=bool).reshape(-1, n_players)
    return whole[distinct(whole)[0]] if len(whole) else whole
