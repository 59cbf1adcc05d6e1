"""Every coalition of a size: the ceiling, where there are few layers."""

from coterie.game.search.plain import exhaustive
from coterie.rivals.interface import Chosen, DoesNotApply, Meter, Selection, Task

MOST_PLAYERS = 20


def choose(task: Task, meter: Meter) -> Chosen:
    """Ask for all coalitions of each size, and keep the best.

    Raises:
        DoesNotApply: Too many layers may go.
    """
    # 20 free layers have at most 184,756 coalitions of one size.
    if len(task.free) > MOST_PLAYERS:
        raise DoesNotApply(
            f"{len(task.free)} layers may go, and trying every coalition is for at most"
            f" {MOST_PLAYERS}: lock some, or leave the method out"
        )
    answers = exhaustive(meter.ledger(), task.keeps, locked=task.locked)
    return {
        removal: Selection(answer.coalition[None])
        for removal, answer in zip(task.removals, answers, strict=True)
    }
