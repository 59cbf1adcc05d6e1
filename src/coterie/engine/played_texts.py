"""A model, its players and the texts they are played on: what all engines of one model share."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.cost import Plan, Spent, plan
from coterie.engine.question import Question, checked_tokens, longest_text, question
from coterie.game.coalitions import Coalitions, Indices
from coterie.models.loaded.stack import Stack


class PlayedTexts:
    """The part of an engine that does not depend on where the weights are.

    Engines build on it and override nothing of it.

    Args:
        model: In evaluation mode.
        stack: The players.
        tokens: Token ids, ``(n_sequences, length)``, without padding.

    Attributes:
        vocabulary: Number of token ids the model knows.
        spent: What has really run so far.
        remarks: What went wrong without stopping anything, one line each.

    Raises:
        TextError: The tokens are not a table, are too short or too long, or are not the model's.
    """

    def __init__(
        self, model: PreTrainedModel, stack: Stack, tokens: NDArray[np.int64] | Tensor
    ) -> None:
        self.model, self.stack = model, stack
        self.vocabulary = vocabulary_of(model)
        self.play(tokens)

    def play(self, tokens: NDArray[np.int64] | Tensor) -> None:
        """Play on these texts from now on, with new accounts and no remarks.

        Raises:
            TextError: The tokens are not a table, are too short or too long, or not the model's.
        """
        # Checked once here, so that nothing below has to check token ids again.
        self.tokens = checked_tokens(tokens, self.vocabulary, longest_text(self.model))
        # An account of its own for these texts: another set may share the model.
        self.spent, self.remarks = Spent(), list[str]()

    @property
    def n_players(self) -> int:
        """Number of players, locked or not."""
        return self.stack.n_players

    @property
    def n_sequences(self) -> int:
        """Number of texts."""
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens of a text."""
        return self.tokens.shape[1]

    @property
    def ends(self) -> Tensor:
        """The first and the last text, to learn and to check how the model runs."""
        # Two texts: a state that leaks from one sequence into another shows only then.
        return self.tokens[[0, -1]]

    def question(self, coalitions: Coalitions, sequences: Indices) -> Question:
        """Check what is asked, and put it in the order in which prefixes are shared.

        Raises:
            ValueError: The coalitions are not this game's, or something is asked for twice.
        """
        return question(coalitions, sequences, self.n_players, self.n_sequences)

    def plan(self, coalitions: Coalitions, n_sequences: int | None = None) -> Plan:
        """The work that observing ``coalitions`` will take, by default on all texts."""
        return plan(coalitions, n_sequences or self.n_sequences, self.length, self.stack.players)


def vocabulary_of(model: PreTrainedModel) -> int:
    """Number of token ids a model knows."""
    return int(model.config.get_text_config(decoder=True).vocab_size)
