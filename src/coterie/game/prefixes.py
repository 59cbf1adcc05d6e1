"""Which coalitions begin alike: what an engine that computes each prefix once has to run."""

import numpy as np

from coterie.game.coalitions import Coalitions, Indices


def prefix_order(coalitions: Coalitions) -> Indices:
    """The order that puts coalitions with a common prefix next to each other, ``(n_coalitions,)``.

    >>> prefix_order(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=bool)).tolist()
    [1, 2, 0]
    """
    # `lexsort` sorts by its last key first, so player 0 has to come last.
    return np.lexsort(coalitions.T[::-1])


def common_prefixes(coalitions: Coalitions) -> Indices:
    """Players on which each row agrees with the row before it, from player 0; 0 for the first."""
    if not len(coalitions):
        return np.zeros(0, dtype=np.intp)
    differs = coalitions[1:] != coalitions[:-1]
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), coalitions.shape[1])
    return np.concatenate([[0], first]).astype(np.intp)


def executions(coalitions: Coalitions) -> Indices:
    """How many layer executions each row adds to those of the rows above it, in prefix order.

    Each is a prefix that ends in a kept player. No exact method needs fewer than their sum.

    >>> executions(np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=bool)).tolist()
    [2, 1, 1]
    """
    shared = common_prefixes(coalitions)
    beyond = np.arange(coalitions.shape[1]) >= shared[:, None]
    return (coalitions & beyond).sum(axis=1)


def layers_executed(coalitions: Coalitions) -> int:
    """Layers that run on each text when these coalitions are asked in one question.

    >>> layers_executed(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=bool))
    4
    """
    return int(executions(coalitions[prefix_order(coalitions)]).sum())
