"""SLEB: remove the layer whose absence hurts least, look again (Song et al., arXiv:2402.09025).

The first and the last layer stay; every candidate is observed on every text.
"""

from coterie.game.search.plain import greedy
from coterie.rivals._ranking import out_of_reach, with_ends
from coterie.rivals.interface import Chosen, Meter, Selection, Task


def choose(task: Task, meter: Meter) -> Chosen:
    """One greedy descent answers all sizes."""
    kept = with_ends(task, 1, 1)
    free = task.n_players - len(kept)
    # Greedy search would fail as a whole at one size too large: those are left out and named.
    within = [removal for removal in task.removals if removal <= free]
    meter.remarks += [out_of_reach(removal, free) for removal in task.removals if removal > free]
    if not within:
        return {}
    answers = greedy(meter.ledger(), [task.n_players - r for r in within], locked=kept)
    return {
        removal: Selection(answer.coalition[None])
        for removal, answer in zip(within, answers, strict=True)
    }
