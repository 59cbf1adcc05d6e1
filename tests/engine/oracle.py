"""What the engine is held against: the model's own forward, and models whose players matter."""

import numpy as np
import torch

from coterie.engine.batch_shape import BatchShape
from coterie.engine.parts.one_by_one import read_one_by_one
from coterie.engine.parts.readings import observations
from coterie.game.coalitions import Observations
from coterie.testing.tiny import tiny_model

SMALL = BatchShape(rows=2, head_tokens=7, head_block=50)


def model_of(family, n_layers):
    """A tiny model whose layers matter: fresh weights are too small to tell layers apart."""
    model = tiny_model(family, n_layers)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model


def texts(n_sequences=5, length=9, vocabulary=128):
    return torch.randint(vocabulary, (n_sequences, length), generator=torch.manual_seed(1))


def some_coalitions(rng, stack, n):
    rows = rng.random((n, stack.n_players)) < 0.6
    rows[:, list(stack.locks)] = True
    return np.unique(rows, axis=0)


def plainly(model, stack, coalitions, tokens):
    """The oracle: the model's own forward, other players skipped."""
    read = read_one_by_one(model, stack, coalitions, tokens, kl=True)
    seen = [vars(observations(reading)) for _, reading in read]
    return Observations(*(np.concatenate([s[f] for s in seen]) for f in ("nll", "kl", "top1")))


def assert_close(found, expected, room):
    np.testing.assert_allclose(found.nll, expected.nll, rtol=0, atol=room)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=0, atol=5 * room)
    np.testing.assert_allclose(found.top1, expected.top1, rtol=0, atol=1e-12)
