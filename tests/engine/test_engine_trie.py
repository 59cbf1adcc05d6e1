"""The walk over the trie computes every prefix once, in an order that fits in memory."""

import numpy as np
import pytest

from coterie.engine.cost import plan
from coterie.engine.trie import Finish, parts, peak_states, schedule
from coterie.game.prefixes import executions, prefix_order


def distinct_prefixes(coalitions):
    """The definition: kept players up to and including each kept one, as a set."""
    kept = [tuple(np.flatnonzero(row)) for row in coalitions]
    return {members[: end + 1] for members in kept for end in range(len(members))}


def drawn(rng, n_coalitions, n_players, share=0.7):
    rows = np.unique(rng.random((n_coalitions, n_players)) < share, axis=0)
    return rows[prefix_order(rows)]


@pytest.mark.parametrize(("n_coalitions", "n_players"), [(1, 1), (5, 3), (60, 9), (300, 16)])
@pytest.mark.parametrize("width", [0, 7, 10_000])
def test_each_prefix_is_computed_once_and_each_row_read_from_its_own(
    rng, n_coalitions, n_players, width
):
    rows = drawn(rng, n_coalitions, n_players)
    held = {0: ()}
    computed = []
    finished = {}
    for step in schedule(rows, width):
        if isinstance(step, Finish):
            finished |= {
                row: held.pop(state) for row, state in zip(step.rows, step.states, strict=True)
            }
            continue
        for parent, child in zip(step.parents, step.children, strict=True):
            held[child] = (*held[parent], step.layer)
            computed.append(held[child])
        for state in step.freed:
            del held[state]
        assert len(held) <= max(width, n_players + 1)
    assert len(computed) == len(set(computed))
    assert set(computed) == distinct_prefixes(rows)
    assert finished == {row: tuple(np.flatnonzero(kept)) for row, kept in enumerate(rows)}
    assert not held


def test_an_unbounded_walk_visits_each_layer_once(rng):
    rows = drawn(rng, 100, 10)
    layers = [step.layer for step in schedule(rows, 10**6) if not isinstance(step, Finish)]
    assert layers == sorted(set(layers))


def test_executions_of_all_coalitions_are_one_per_prefix():
    everything = np.array(np.meshgrid(*[[False, True]] * 12)).reshape(12, -1).T
    everything = everything[prefix_order(everything)]
    assert executions(everything).sum() == 4095  # the nodes of a binary tree, less the root
    counted = plan(everything, 10, 128)
    assert counted.layer_executions == 4095
    assert counted.sharing == pytest.approx(6.0, abs=0.01)
    assert counted.head_tokens == 4096 * 10 * 127


def test_a_plan_counts_repeats_once(rng):
    rows = drawn(rng, 20, 6)
    assert plan(np.repeat(rows, 3, axis=0), 2, 8) == plan(rows, 2, 8)


def test_the_narrowest_walk_holds_one_state_per_depth(rng):
    rows = drawn(rng, 500, 10)
    assert peak_states(rows, 0) <= 12  # ten players, the embedding, and the output in the making
    assert plan(rows, 3, 8).state_bytes(16, 4, states=1) == 3 * 8 * 16 * 4


def test_no_coalition_costs_nothing():
    nothing = plan(np.zeros((0, 5), dtype=bool), 4, 16)
    assert (nothing.layer_executions, nothing.head_tokens) == (0, 0)


@pytest.mark.parametrize("n_parts", [1, 2, 5, 200])
def test_parts_cover_the_rows_in_order_and_share_the_work(rng, n_parts):
    rows = drawn(rng, 400, 12)
    pieces = parts(rows, n_parts)
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(len(rows)))
    assert all(len(piece) for piece in pieces)
    if n_parts == 2:
        work = [executions(rows[piece]).sum() for piece in pieces]
        assert max(work) < 0.65 * sum(work)
