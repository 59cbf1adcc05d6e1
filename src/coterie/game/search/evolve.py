"""Evolution by level switches, as in EvoPress (Sieberling et al. 2024, arXiv:2410.14649)."""

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions, Indices, distinct
from coterie.game.designs import NO_ONE, draw_distinct
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer

INITIAL, OFFSPRING, SWITCHES = 64, 32, 3  # the published settings
STAGES: tuple[tuple[int, float], ...] = ((2, 1 / 16), (1, 1.0))
"""Survivors of each selection and the share of the texts it looks at: 2,048 and 32,768 tokens."""


def evolve(
    ledger: Ledger,
    keep: int,
    *,
    locked: Indices = NO_ONE,
    generations: int | None = None,
    most_layer_sequences: float = np.inf,
    rng: np.random.Generator,
) -> Answer:
    """One parent, many children that differ by a few swaps; the best of all becomes the parent.

    Args:
        ledger: The account that asks the game.
        keep: Kept players, locked ones included.
        locked: Players that stay.
        rng: Draws the first crowd, the children and the texts.
        generations: By default the published k (n − k) / 1.5, with k players removed.
        most_layer_sequences: No generation begins that might bring the ledger above this, the last
            parent's value included; the first crowd is asked all the same.
    """
    n_players = ledger.n_players
    # The published number of generations grows with the number of possible swaps.
    if generations is None:
        generations = int(np.ceil(keep * (n_players - keep) / 1.5))
    crowd = draw_distinct(n_players, keep, INITIAL, locked=locked, rng=rng).coalitions
    parent = _select(ledger, crowd, 1, STAGES[0][1], rng)[0]
    dearest = keep * (_texts_of_generation(ledger.n_sequences) + ledger.n_sequences)
    for _ in range(generations):
        if ledger.layer_sequences + dearest > most_layer_sequences:
            break
        children = np.stack([_child(parent, locked, rng) for _ in range(OFFSPRING)])
        for number, (survivors, share) in enumerate(STAGES):
            # The parent competes in the last selection alone, on all of its texts.
            if number == len(STAGES) - 1:
                children = np.concatenate([parent[None], children])
            children = _select(ledger, children, survivors, share, rng)
        parent = children[0]
    return Answer("evolution", parent, float(ledger.value(parent[None])[0]))


def _texts_of_generation(n_sequences: int) -> int:
    """Texts that one generation reads at most, counted once for every coalition."""
    crowds = [OFFSPRING, *(survivors for survivors, _ in STAGES)]
    crowds[len(STAGES) - 1] += 1  # the parent
    return sum(
        crowd * _share(n_sequences, share)
        for crowd, (_, share) in zip(crowds, STAGES, strict=False)
    )


def _share(n_sequences: int, share: float) -> int:
    return max(1, round(share * n_sequences))


def _child(parent: Coalition, locked: Indices, rng: np.random.Generator) -> Coalition:
    """A copy with 1 to 3 swaps, fewer likelier: the smaller of two throws."""
    child = parent.copy()
    inside, outside = np.setdiff1d(np.flatnonzero(parent), locked), np.flatnonzero(~parent)
    # The smaller of two throws: one swap is likelier than three (arXiv:2410.14649).
    swaps = min(*rng.integers(1, SWITCHES + 1, size=2), len(inside), len(outside))
    child[rng.choice(inside, swaps, replace=False)] = False
    child[rng.choice(outside, swaps, replace=False)] = True
    return child


def _select(
    ledger: Ledger, crowd: Coalitions, survivors: int, share: float, rng: np.random.Generator
) -> Coalitions:
    """The best of a crowd on a random share of the texts; the first where they are equal."""
    crowd = crowd[distinct(crowd)[0]]
    n = _share(ledger.n_sequences, share)
    columns = np.sort(rng.choice(ledger.n_sequences, n, replace=False))
    losses = ledger.losses(crowd, columns).mean(axis=1)
    return crowd[np.argsort(losses, kind="stable")[:survivors]]
