"""What an evaluation will cost and what it has cost, counted and not timed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coterie.engine.trie import BESIDE_THE_WALK, kept_steps, peak_states
from coterie.game.coalitions import Coalitions
from coterie.game.prefixes import executions, prefix_order

if TYPE_CHECKING:
    from coterie.models.loaded.stack import Players


_STEPS = {"attention": [True, False], "mlp": [False, True]}
"""Of each layer, the steps that are players; of other kinds of players, every step is one."""


@dataclass(frozen=True)
class Plan:
    """The work of observing some coalitions on some sequences, known before it is done.

    Tokens count every position for a layer, and every predicted position for the head.
    """

    distinct_coalitions: int
    n_sequences: int
    length: int
    n_players: int
    layer_executions: int
    """Distinct prefixes that end in a kept player: each is run once over all sequences."""
    head_executions: int
    layer_tokens_asked: int
    """What one coalition at a time, skipping, would run."""
    layer_tokens_executed: int
    head_tokens: int
    narrowest_states: int
    """States held at once when memory is scarce: what a walk cannot go below."""
    widest_states: int
    """States alive at once where memory sets no limit."""

    def state_bytes(self, hidden_size: int, itemsize: int, states: int | None = None) -> int:
        """Bytes of live states over all sequences; by default of the narrowest walk.

        Args:
            hidden_size: Width of a state.
            itemsize: Bytes of a number.
            states: States alive at once.
        """
        alive = self.narrowest_states if states is None else states
        return alive * self.n_sequences * self.length * hidden_size * itemsize

    @property
    def sharing(self) -> float:
        """How many times fewer layer executions than skipping needs."""
        return self.layer_tokens_asked / max(self.layer_tokens_executed, 1)


@dataclass
class Spent:
    """What an engine really ran.

    Setting up is counted apart: probes, the full model, and the search for the layer where a
    coalition breaks down.
    """

    layer_executions: int = 0
    """Layers run on a prefix, over all sequences asked for."""
    layer_tokens: int = 0
    head_tokens: int = 0
    seconds: float = 0.0
    setup_layer_tokens: int = 0
    setup_head_tokens: int = 0
    setup_seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Spent(*(mine + theirs for mine, theirs in pairs))

    def __sub__(self, other: "Spent") -> "Spent":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Spent(*(mine - theirs for mine, theirs in pairs))


def plan(
    coalitions: Coalitions, n_sequences: int, length: int, players: "Players" = "layer"
) -> Plan:
    """Count the work of observing `coalitions` on sequences of ``length`` tokens, without a model.

    Args:
        coalitions: Shape ``(n_coalitions, n_players)``; repeats are counted once.
        n_sequences: Sequences each coalition is observed on.
        length: Tokens of a sequence.
        players: What a player is. Between blocks of one kind, those of the other always run.
    """
    # Repeats are answered once, and the trie is counted along rows in prefix order.
    distinct = np.unique(coalitions, axis=0)
    distinct = distinct[prefix_order(distinct)]
    layer_executions = int(executions(distinct).sum())
    tokens = n_sequences * length
    n_players = coalitions.shape[1]
    # Blocks of the other kind always run, so the walk has more steps than there are players.
    kept = kept_steps(np.tile(_STEPS.get(players, [True]), n_players), distinct)
    return Plan(
        distinct_coalitions=len(distinct),
        n_sequences=n_sequences,
        length=length,
        n_players=n_players,
        layer_executions=layer_executions,
        head_executions=len(distinct),
        layer_tokens_asked=int(distinct.sum()) * tokens,
        layer_tokens_executed=layer_executions * tokens,
        head_tokens=len(distinct) * n_sequences * (length - 1),
        narrowest_states=peak_states(kept, 0) + BESIDE_THE_WALK,
        # A width above rows plus steps never halves a group, so this is the free walk.
        widest_states=peak_states(kept, sum(kept.shape) + 1),
    )
