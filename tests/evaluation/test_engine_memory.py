"""Where memory is short the engine computes less at once, and changes no value."""

import torch
from tests.evaluation import oracle
from tests.evaluation.oracle import assert_close, plainly, some_coalitions, texts

from coterie.evaluation import batches
from coterie.evaluation.engine import ModelGame
from coterie.evaluation.shape import BatchShape
from coterie.game.coalitions import observe_all

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
