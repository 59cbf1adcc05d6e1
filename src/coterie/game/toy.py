"""Small games with known answers, for tests, documentation and trying things out.

Each is a `Game`: it is observed like a language model, in an instant. Its loss is minus its value.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Block, Coalitions, Indices, Matrix, Observations, Vector
from coterie.game.coalitions import sizes as sizes_of

Losses = Callable[[Coalitions], Matrix]
"""Maps coalitions to losses, ``(n_coalitions, n_sequences)``; a single column serves every text."""


@dataclass(frozen=True, eq=False)
class ToyGame:
    """A game given by its losses."""

    n_players: int
    losses: Losses
    n_sequences: int = 1

    def value(self, coalitions: Coalitions) -> Vector:
        """Minus the mean loss, ``(n_coalitions,)``."""
        return -self.losses(coalitions).mean(axis=1)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """All of it as one block; divergence and agreement follow from the loss."""
        # Divergence as far as the loss is above the full model's: enough for a toy.
        everyone = np.ones((1, self.n_players), dtype=bool)
        nll = self.losses(coalitions)[:, sequences]
        kl = np.maximum(nll - self.losses(everyone)[:, sequences], 0)
        observations = Observations(nll, kl, np.exp(-kl))
        yield Block(np.arange(len(coalitions)), np.arange(len(sequences)), observations)


def game_of(n_players: int, value: Callable[[Coalitions], Vector]) -> ToyGame:
    """A game on one text with the given values."""
    # A loss is minus a value, here and in every game.
    return ToyGame(n_players, lambda coalitions: -np.asarray(value(coalitions), float)[:, None])


def additive(worth: Vector) -> ToyGame:
    """Everyone brings their own worth; every semivalue returns it."""
    return game_of(len(worth), lambda coalitions: coalitions @ worth)


def unanimity(n_players: int, carrier: Indices) -> ToyGame:
    """Worth 1 to those who hold the whole carrier; its members share it equally under Shapley."""
    return game_of(
        n_players, lambda coalitions: np.where(coalitions[:, carrier].all(axis=1), 1.0, 0.0)
    )


def majority(n_players: int) -> ToyGame:
    """Worth 1 to more than half; everyone's Shapley value is 1 / n."""
    return game_of(
        n_players, lambda coalitions: np.where(sizes_of(coalitions) > n_players / 2, 1.0, 0.0)
    )


def glove(n_left: int, n_right: int) -> ToyGame:
    """Everyone owns a left or a right glove, and only pairs are worth anything."""

    def value(coalitions: Coalitions) -> Vector:
        left, right = coalitions[:, :n_left].sum(axis=1), coalitions[:, n_left:].sum(axis=1)
        return np.minimum(left, right).astype(float)

    return game_of(n_left + n_right, value)


def random_table(n_players: int, *, rng: np.random.Generator) -> ToyGame:
    """No structure at all: an independent normal value for every coalition; up to 20 players."""
    table = rng.normal(size=2**n_players)
    # Bits of a coalition number its row of the table.
    return game_of(n_players, lambda coalitions: table[coalitions @ (1 << np.arange(n_players))])


def random_pairwise(n_players: int, *, rng: np.random.Generator) -> ToyGame:
    """Normal worths and normal pair interactions, nothing higher: Shapley is b + Σ c / 2."""
    worth = rng.normal(size=n_players)
    pairs = np.triu(rng.normal(size=(n_players, n_players)), 1)

    def value(coalitions: Coalitions) -> Vector:
        kept = coalitions.astype(float)
        # Each pair once: `pairs` is upper triangular.
        return kept @ worth + ((kept @ pairs) * kept).sum(axis=1)

    return game_of(n_players, value)


def layer_like(
    n_players: int,
    *,
    rng: np.random.Generator,
    n_sequences: int = 1,
    roughness: float = 0.03,
    blow_ups: float = 0.0,
) -> ToyGame:
    """A game whose loss behaves like that of a language model losing layers.

    The ends matter most; neighbours stand in for each other, so cutting both costs extra; a few
    pairs belong together, so cutting both costs less; the loss saturates near a uniform guess.

    Args:
        n_players: Players of the game, locked ones included.
        rng: Decides what the game is like.
        n_sequences: Texts, each with its own difficulty and its own taste for layers.
        roughness: Standard deviation of what no pair explains, nats per token.
        blow_ups: Share of coalitions whose loss is not finite, always the same ones.
    """
    place = np.arange(n_players)
    # First and last layers matter most, as in real models.
    alone = rng.gamma(2.0, 0.02, size=n_players)
    alone[0] += 1.5
    alone[-1] += 0.4
    distance = np.abs(place[:, None] - place)
    near = np.exp(-distance / 2.0)
    # Neighbours stand in for each other: losing both costs extra.
    pairs = np.triu(near * rng.gamma(2.0, 0.05, size=near.shape), 1)
    pairs -= np.triu((rng.random(near.shape) < 0.15) * near * 0.1, 1)
    # Texts differ in how much each layer matters to them.
    taste = rng.normal(scale=0.15, size=(n_players, n_sequences))
    difficulty = rng.normal(3.5, 0.4, size=n_sequences)
    # Smooth waves over coalitions: what no model of pairs explains.
    waves = rng.normal(size=(n_players, 64))
    phases = rng.uniform(0, 2 * np.pi, size=64)
    heights = rng.normal(size=64) * roughness / np.sqrt(32)

    def losses(coalitions: Coalitions) -> Matrix:
        cut = (~coalitions).astype(float)
        cost = cut @ (alone[:, None] * np.exp(taste))
        cost += ((cut @ pairs) * cut).sum(axis=1)[:, None]
        cost += (np.sin(cut @ waves + phases) - np.sin(phases)) @ heights[:, None]
        # Losses saturate: a broken model guesses about uniformly.
        nll = difficulty + 5.0 * np.tanh(cost / 5.0)
        bad = (np.sin(cut @ waves[:, 0] * 1e3) + 1) / 2 < blow_ups
        return np.where(bad[:, None] & (cut.sum(axis=1) > 1)[:, None], np.inf, nll)

    return ToyGame(n_players, losses, n_sequences)
