"""The search methods by name: what each is called, costs and plays; one file each, one table.

    found = SEARCH_METHODS["greedy"].play(ledger, task)
    found.answers           its coalitions, its own of every size first

Command lines, checks, dry runs, `compare` and records read the table. To add a method, write one
class with a name, a title, a summary, `least` and `play`, and `SEARCH_METHODS.register` an
object of it. Nothing here imports numpy before a method plays: a command line can name them all in
an instant.
"""

from coterie.game.named import NamedTable
from coterie.game.search.methods._interface import SearchMethod
from coterie.game.search.methods.contiguous import ContiguousRun
from coterie.game.search.methods.evolution import Evolution
from coterie.game.search.methods.greedy import GreedyDescent
from coterie.game.search.methods.guided import GuidedSearch
from coterie.game.search.methods.one_shot import OneShot
from coterie.game.search.methods.paper import PaperRanking

__all__ = ["SEARCH_METHODS", "SearchMethod"]

# The order decides the default, and how reports and help texts list them.
SEARCH_METHODS: NamedTable[SearchMethod] = NamedTable(
    "a search method",
    (
        GuidedSearch(),
        PaperRanking(),
        GreedyDescent(),
        OneShot(),
        ContiguousRun(),
        Evolution(),
    ),
)
"""Every search method by its name; the first is the default."""
