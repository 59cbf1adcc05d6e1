"""The search methods by name: what each is called, costs and plays; one file each, one table.

    found = SEARCH_METHODS["greedy"].play(ledger, task)
    found.answers           its coalitions, its own of every size first

Command lines, checks, dry runs, `compare` and records read the table. To add a method, write one
class with a name, a title, a summary, `least` and `play`, and `register` an object of it. Nothing
here imports numpy before a method plays: a command line can name them all in an instant.
"""

from coterie.errors import CoterieError
from coterie.game.search.methods._interface import SearchMethod
from coterie.game.search.methods.contiguous import ContiguousRun
from coterie.game.search.methods.evolution import Evolution
from coterie.game.search.methods.greedy import GreedyDescent
from coterie.game.search.methods.guided import GuidedSearch
from coterie.game.search.methods.one_shot import OneShot
from coterie.game.search.methods.paper import PaperRanking

__all__ = ["SEARCH_METHODS", "SearchMethod", "register"]

SEARCH_METHODS: dict[str, SearchMethod] = {}
"""Every search method by its name; the first is the default."""


def register(method: SearchMethod) -> None:
    """Add a method to the table, last.

    Raises:
        CoterieError: There is one of this name.
    """
    if method.name in SEARCH_METHODS:
        raise CoterieError(f"there is a search method named {method.name!r}: choose another name")
    SEARCH_METHODS[method.name] = method


# The order decides the default, and how reports and help texts list them.
for _method in (
    GuidedSearch(),
    PaperRanking(),
    GreedyDescent(),
    OneShot(),
    ContiguousRun(),
    Evolution(),
):
    register(_method)
