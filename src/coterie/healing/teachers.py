"""The teacher: the full model that runs next to the student, or what it said when asked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.functional import log_softmax

from coterie.game.coalitions import Indices
from coterie.healing.gap_states import entering
from coterie.healing.students import KnowsFullModel
from coterie.scores.predictions import divergence


@dataclass(frozen=True, eq=False)
class Targets:
    """What the full model predicts after every token of a batch.

    Attributes:
        log_probs: ``(n_tokens, vocabulary)``, or ``(n_tokens, k)`` of the most likely tokens.
        ids: Which tokens those are, ``(n_tokens, k)``; None where they are all, in order.
        rest: Log of the mass on all other tokens together, ``(n_tokens, 1)``; None likewise.
        states: What entered the layers after each gap, where that is asked.
    """

    log_probs: Tensor
    ids: Tensor | None = None
    rest: Tensor | None = None
    states: Sequence[Tensor] = ()

    def divergence(self, logits: Tensor) -> Tensor:
        """KL(full ‖ kept), nats per token; of the most likely tokens and the rest as one token.

        Args:
            logits: The student's, ``(n_sequences, length, vocabulary)``.
        """
        mine = log_softmax(logits.float(), dim=-1).flatten(0, 1)
        return divergence(self.log_probs, mine, self.ids, self.rest)


class Teacher(Protocol):
    """Whoever says what the full model predicts."""

    def targets(self, rows: Indices, tokens: Tensor) -> Targets:
        """Predictions for a batch.

        Args:
            rows: Which of the training sequences it holds, ``(n_sequences,)``.
            tokens: Their ids, ``(n_sequences, length)``.
        """
        ...


class LiveTeacher:
    """The full model itself, which runs next to the student on the very same weights.

    Args:
        model: A student that knows its full model.
        places: Players at which the entering states are targets too.
    """

    def __init__(self, model: KnowsFullModel, places: Sequence[int] = ()) -> None:
        self._model, self._places = model, places

    def targets(self, rows: Indices, tokens: Tensor) -> Targets:
        """Predictions for a batch, over the whole vocabulary."""
        # The hooks are on the layers that the student shares, so one run gives both.
        with entering(self._model.stack, self._places) as states:
            logits = self._model.full_logits(tokens)
        return Targets(log_softmax(logits.float(), dim=-1).flatten(0, 1), states=states)
