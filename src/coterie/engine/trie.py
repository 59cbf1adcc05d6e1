"""The trie of coalition prefixes: what must be computed, in which order, and how much of it.

Two coalitions that keep the same players up to some depth share every state up to there. So the
states to compute are the distinct prefixes that end in a kept player, and no fewer. This page
knows no model: it plans a walk over the trie that computes each prefix once and never holds more
than a stated number of states.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Coalitions, Indices
from coterie.game.prefixes import common_prefixes, executions

BESIDE_THE_WALK = 2
"""States held beside those of `schedule`: the embedding's and the full model's own vectors."""


@dataclass(frozen=True)
class Run:
    """Apply one layer to several states: ``children[i]`` is the layer's output on ``parents[i]``.

    ``freed`` are states nobody needs afterwards.
    """

    layer: int
    parents: list[int]
    children: list[int]
    freed: list[int]


@dataclass(frozen=True)
class Finish:
    """Coalitions are complete: ``states[i]`` is the final state of row ``rows[i]``, then freed."""

    rows: list[int]
    states: list[int]


@dataclass(frozen=True)
class _Node:
    """Rows ``start`` to ``stop`` of the sorted coalitions, which share everything so far."""

    start: int
    stop: int
    state: int


def schedule(coalitions: Coalitions, width: int) -> Iterator[Run | Finish]:
    """Walk the trie depth first, with at most ``width`` states alive at a time.

    State 0 is the embedding of the texts. A group of states goes down layer by layer together; it
    is halved whenever a layer would make more states than may live, and the second half waits.

    Args:
        coalitions: Distinct rows in `prefix_order`.
        width: States that may be alive at once, beside the one being computed; less than one per
            player and one for the embedding is raised to that, which is always enough.
    """
    n_coalitions, n_players = coalitions.shape
    if not n_coalitions:
        return
    # Depth first needs one state for each depth, and the embedding.
    width = max(width, n_players + 1)
    waiting = [(0, [_Node(0, n_coalitions, 0)])]
    live, fresh = 1, 1
    while waiting:
        layer, group = waiting.pop()
        if layer == n_players:
            yield Finish([node.start for node in group], [node.state for node in group])
            live -= len(group)
            continue
        splits = [_first_kept(coalitions, node, layer) for node in group]
        # A node that some rows keep and others cut becomes two states: growth counts these.
        growth = np.cumsum(
            [node.start < split < node.stop for node, split in zip(group, splits, strict=True)]
        )
        # Below, a single state may still grow by one at every layer: states for that are kept free.
        fits = int(np.searchsorted(growth, width - live - (n_players - layer - 1), side="right"))
        if fits < len(group):
            # Halving, not trimming, keeps the two parts about equally wide.
            fits = max(1, min(fits, (len(group) + 1) // 2))
            waiting.append((layer, group[fits:]))
            group, splits = group[:fits], splits[:fits]
        step, below = _descend(layer, group, splits, fresh)
        if step.children:
            yield step
        live += len(step.children) - len(step.freed)
        fresh += len(step.children)
        waiting.append((layer + 1, below))


def kept_steps(plays: NDArray[np.bool_], coalitions: Coalitions) -> Coalitions:
    """The steps that coalitions of players keep, ``(n_coalitions, n_steps)``, in the same order.

    Args:
        plays: ``(n_steps,)``; True marks the steps that are players, the others always run.
        coalitions: ``(n_coalitions, n_players)``.
    """
    kept = np.ones((len(coalitions), len(plays)), dtype=bool)
    kept[:, plays] = coalitions
    return kept


def peak_states(coalitions: Coalitions, width: int) -> int:
    """Most states alive at once in `schedule(coalitions, width)`.

    One more than survive a step: a layer's output exists beside its input while it is computed.
    """
    live, peak = 1, 1
    for step in schedule(coalitions, width):
        if isinstance(step, Finish):
            live -= len(step.states)
        else:
            live += len(step.children) - len(step.freed)
            peak = max(peak, live + 1)
    return peak


def parts(coalitions: Coalitions, n_parts: int) -> list[Indices]:
    """Divide rows in `prefix_order` into subtrees of about equal work, at least one row each.

    A cut between two rows costs the prefixes they share a second time, so each cut is moved, within
    a tenth of a part, to where neighbours share least.
    """
    n_parts = max(1, min(n_parts, len(coalitions)))
    work = np.cumsum(executions(coalitions) + 1.0)
    shared = common_prefixes(coalitions)
    slack = max(1, len(coalitions) // (10 * n_parts))
    cuts: list[int] = [0]
    for part in range(1, n_parts):
        middle = int(np.searchsorted(work, work[-1] * part / n_parts))
        low = max(cuts[-1] + 1, middle - slack)
        high = min(len(coalitions) - (n_parts - part), middle + slack)
        cuts.append(low + int(shared[low : high + 1].argmin()) if low <= high else low)
    return np.split(np.arange(len(coalitions)), cuts[1:])


def _first_kept(coalitions: Coalitions, node: _Node, layer: int) -> int:
    """First row of the node that keeps ``layer``; sorting has put those that cut it before."""
    return node.start + int(np.searchsorted(coalitions[node.start : node.stop, layer], True))


def _descend(
    layer: int, group: list[_Node], splits: list[int], fresh: int
) -> tuple[Run, list[_Node]]:
    """One layer down: the step to run, and the nodes below it."""
    parents: list[int] = []
    children: list[int] = []
    freed: list[int] = []
    below: list[_Node] = []
    for node, split in zip(group, splits, strict=True):
        if node.start < split:
            below.append(_Node(node.start, split, node.state))
        if split < node.stop:
            child = fresh + len(children)
            parents.append(node.state)
            children.append(child)
            below.append(_Node(split, node.stop, child))
            # No row of the node cuts the layer, so nobody needs the state before it any more.
            if node.start == split:
                freed.append(node.state)
    return Run(layer, parents, children, freed), below
