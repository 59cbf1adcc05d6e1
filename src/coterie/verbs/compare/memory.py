"""The memory of a method as if it were alone: what the store answers takes none now."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from coterie.engine.cost import plan
from coterie.game.coalitions import Coalitions, Indices
from coterie.scores.peak_memory import peak_memory
from coterie.verbs.shared.text_game import TextGame
from coterie.verbs.shared.workspace import Workspace


@contextmanager
def memory_alone(workspace: Workspace) -> Iterator[Callable[[], int | None]]:
    """Measure the peak of a method above its start, bytes; None where no system reports it.

    Where the store knows a part of a question, the states with which it would have been walked
    count at least: another method that asked before is no reason to need less.

    Args:
        workspace: The opened model and its games.
    """
    least = [0]

    def recalled(played: TextGame, coalitions: Coalitions, sequences: Indices) -> None:
        least.append(_states(played, coalitions, len(sequences)))

    for one in workspace.games:
        one.game.recalled = partial(recalled, one)
    try:
        with peak_memory(workspace.model.device) as peak:
            yield lambda: None if peak() is None else max(peak() or 0, *least)
    finally:
        for one in workspace.games:
            one.game.recalled = lambda coalitions, sequences: None


def _states(played: TextGame, coalitions: Coalitions, n_sequences: int) -> int:
    """Bytes of the fewest states that a question is walked with."""
    engine = played.engine
    work = plan(coalitions, n_sequences, engine.length, engine.stack.players)
    width = int(engine.model.config.get_text_config(decoder=True).hidden_size)
    return work.state_bytes(width, engine.model.dtype.itemsize)
