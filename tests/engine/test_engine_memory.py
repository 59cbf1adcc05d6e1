"""Where memory is short the engine computes less at once, and changes no value."""

import numpy as np
import pytest
import torch
from tests.engine import oracle
from tests.engine.oracle import assert_close, plainly, some_coalitions, texts

from coterie.engine import batches, memory, plain_walk
from coterie.engine.batch_shape import BatchShape
from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import observe_all
from coterie.game.prefixes import prefix_order

WIDE = BatchShape(32, 256, 128)


def full():
    raise torch.OutOfMemoryError("pretended")


def game_of(n_layers=5, shape=WIDE, n_sequences=2):
    return ModelGame(oracle.model_of("llama", n_layers), texts(n_sequences), shape=shape)


def test_states_that_cannot_be_joined_go_in_smaller_batches(rng, monkeypatch):
    game = game_of()
    coalitions = some_coalitions(rng, game.stack, 30)
    expected = plainly(game.model, game.stack, coalitions, game.tokens)
    joined = batches._joined
    monkeypatch.setattr(batches, "_joined", lambda s: full() if len(s) > 2 else joined(s))
    assert_close(observe_all(game, coalitions), expected, 1e-6)
    assert game.shape.rows <= 5


def test_rows_that_were_halved_never_rise_again(rng):
    game = game_of()
    walker, seen = game.walker, []
    run = walker.layers.run

    def tight(prelude, layer, state, first, copies):
        seen.append(game.shape.rows)
        if len(state) > (2 if layer == 3 else 8):
            full()
        return run(prelude, layer, state, first, copies)

    coalitions = some_coalitions(rng, game.stack, 30)
    expected = plainly(game.model, game.stack, coalitions, game.tokens)
    walker.layers.run = tight
    assert_close(observe_all(game, coalitions), expected, 1e-6)
    assert seen == sorted(seen, reverse=True) and seen[-1] <= 3


def test_a_batch_is_divided_before_it_is_tried_once_it_is_known_not_to_fit():
    game = game_of(n_sequences=1)
    walker, tried = game.walker, []
    run = walker.layers.run

    def tight(prelude, layer, state, first, copies):
        tried.append(len(state))
        return full() if len(state) > 1 else run(prelude, layer, state, first, copies)

    walker.layers.run = tight
    prelude = walker.layers.prelude(walker.tokens)
    for _ in range(2):
        walker.batches.apply(prelude, 0, prelude.embedded.repeat(16, 1, 1), 0, 16)
    assert sorted(set(tried)) == [1, 2, 4, 8, 16]
    assert tried.count(2) == tried.count(16) == 1 and game.shape.rows == 1


def out_of_chain(model):
    """A head that no chain of modules gives: coalitions go one at a time."""
    forward = model.forward

    def squared(*given, **named):
        output = forward(*given, **named)
        output.logits = output.logits**2
        return output

    model.forward = squared
    return model


@pytest.mark.parametrize("broken_off", [0, 3])
def test_one_at_a_time_fewer_texts_are_read_at_once_where_memory_is_short(broken_off, rng):
    model, tokens = out_of_chain(oracle.model_of("llama", 5)), texts(6)
    game = ModelGame(model, tokens)
    assert game.shape.rows == 6
    coalitions = some_coalitions(rng, game.stack, 8)
    expected = plainly(model, game.stack, coalitions, tokens)
    forward, calls = model.forward, []

    def narrow(*given, input_ids, **named):
        calls.append(len(input_ids))
        # The full model and the first coalitions may have gone well.
        return (
            full()
            if len(input_ids) > 2 and len(calls) > broken_off
            else forward(*given, input_ids=input_ids, **named)
        )

    model.forward = narrow
    seen = np.zeros((len(coalitions), 6), dtype=int)
    before = game.spent.layer_tokens
    for block in game.observe(coalitions, np.arange(6)):
        corner = np.ix_(block.rows, block.columns)
        seen[corner] += 1
        np.testing.assert_allclose(block.observations.nll, expected.nll[corner], atol=1e-6)
    assert (seen == 1).all()
    assert sum(n > 2 for n in calls[broken_off:]) == 2 and game.shape.rows <= 2
    assert game.spent.layer_tokens - before == game.plan(coalitions).layer_tokens_asked
    assert game.spent.layer_executions == coalitions.sum()


def test_one_at_a_time_no_more_texts_are_read_at_once_than_tables_of_logits_fit(monkeypatch):
    model = out_of_chain(oracle.model_of("llama", 3))
    table = 4 * 9 * 128
    for free, rows in ((1, 1), (18 * table, 3), (10**9, 6)):
        monkeypatch.setattr(plain_walk, "free_bytes", lambda device, free=free: free)
        assert ModelGame(model, texts(6)).shape.rows == rows


@pytest.mark.parametrize("n_sequences", [1, 3])
def test_to_set_up_no_table_of_logits_is_larger_than_one_of_a_part_of_a_text(n_sequences):
    model, places = oracle.model_of("llama", 3), []
    model.lm_head.register_forward_pre_hook(
        lambda _, given: places.append(given[0].shape[0] * given[0].shape[1])
    )
    ModelGame(model, texts(n_sequences, 400))
    assert max(places) <= 256


@pytest.mark.parametrize("share", [0.2, 0.7, 3.0])
def test_the_full_models_vectors_count_as_memory_or_are_not_kept(share, rng):
    model, tokens = oracle.model_of("llama", 5), texts(12)
    game = ModelGame(model, tokens, shape=WIDE)
    walker = game.walker
    coalitions = some_coalitions(rng, game.stack, 10)
    coalitions = coalitions[prefix_order(coalitions)]
    every = walker.state_bytes * len(tokens)
    narrowest = game.plan(coalitions).narrowest_states
    most = int(share * narrowest * every)
    expected = plainly(model, game.stack, coalitions, tokens)
    for _ in range(2):
        for block in walker.observe(coalitions, np.arange(12), most):
            kept = [vars(own).values() for own in walker._full.values()]
            held = sum(field.nbytes for own in kept for field in own if field is not None)
            assert held + len(block.columns) * walker.state_bytes * narrowest <= most
            assert held <= walker.held_bytes
            found = block.observations
            corner = np.ix_(block.rows, block.columns)
            np.testing.assert_allclose(found.nll, expected.nll[corner], atol=1e-6)
            np.testing.assert_allclose(found.kl, expected.kl[corner], atol=5e-6)
    assert len(walker._full) == (12 if share > 0.2 else 0)


def in_a_container(folder, limit, used, **stat):
    (folder / "memory.max").write_text(str(limit))
    (folder / "memory.current").write_text(str(used))
    (folder / "memory.stat").write_text("".join(f"{k} {v}\n" for k, v in stat.items()))


def test_files_that_a_container_has_read_do_not_count_as_used(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_available", lambda: 10**12)
    assert memory.free_main_memory() == 10**12  # no limit
    in_a_container(tmp_path, 1000, 990, anon=90, file=900, inactive_file=700, active_file=200)
    assert memory.free_main_memory() == 710
    in_a_container(tmp_path, 1000, 400, inactive_file=900)
    assert memory.free_main_memory() == 1000
