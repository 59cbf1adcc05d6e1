"""Which coalition to keep: searches that propose coalitions and read values back.

ledger    asks a game, remembers, counts the cost
simple    by rank, one-shot, greedy, contiguous, by swaps, exhaustive
race      the best of many candidates, few texts first; safely, where it must not err
evolve    evolution by level switches
local     climbing on a pairwise model
start     the plain answers that guided search begins with
guided    a Gaussian process says where to look
decide    the last word between finalists, on more texts
"""

from coterie.game.search.baselines import (
    Descent,
    least_layer_sequences,
    plain_cost,
    whole_layer_sequences,
)
from coterie.game.search.decide import Decision, Standing, close_to_best, decide
from coterie.game.search.evolve import evolve
from coterie.game.search.guided import Guided, front_sizes, guided
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import (
    Answer,
    by_swaps,
    contiguous,
    cut_lowest,
    exhaustive,
    greedy,
    nested,
    one_shot,
)
from coterie.game.search.race import Judge, SafeRaces, by_race, in_full

__all__ = [
    "Answer",
    "Decision",
    "Descent",
    "Guided",
    "Judge",
    "Ledger",
    "SafeRaces",
    "Standing",
    "by_race",
    "by_swaps",
    "close_to_best",
    "contiguous",
    "cut_lowest",
    "decide",
    "evolve",
    "exhaustive",
    "front_sizes",
    "greedy",
    "guided",
    "in_full",
    "least_layer_sequences",
    "nested",
    "one_shot",
    "plain_cost",
    "whole_layer_sequences",
]
