"""Which coalition to keep: searches that propose coalitions and read values back.

ledger    asks a game, remembers, counts the cost
simple    by rank, one-shot, greedy, contiguous, by swaps, exhaustive
race      the best of many candidates, few texts first
evolve    evolution by level switches
local     climbing on a pairwise model
guided    a Gaussian process says where to look
decide    the last word between finalists, on more texts
"""

from coterie.game.search.decide import Decision, Standing, decide
from coterie.game.search.evolve import evolve
from coterie.game.search.guided import Guided, front_sizes, guided, plain_cost
from coterie.game.search.ledger import Ledger
from coterie.game.search.race import Judge, by_race, in_full
from coterie.game.search.simple import (
    Answer,
    by_swaps,
    contiguous,
    cut_lowest,
    exhaustive,
    greedy,
    nested,
    one_shot,
)

__all__ = [
    "Answer",
    "Decision",
    "Guided",
    "Judge",
    "Ledger",
    "Standing",
    "by_race",
    "by_swaps",
    "contiguous",
    "cut_lowest",
    "decide",
    "evolve",
    "exhaustive",
    "front_sizes",
    "greedy",
    "guided",
    "in_full",
    "nested",
    "one_shot",
    "plain_cost",
]
