"""What may be asked of a model game, and how the question is put in order."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from coterie.errors import TextError
from coterie.game.coalitions import Coalitions, Indices
from coterie.game.prefixes import common_prefixes, prefix_order
from coterie.models.loaded.stack import ELSEWHERE

PLACES = re.compile(
    r"(^|\.)(wpe|position_embeddings?|positions_embed|embed_positions|pos_encoding)(\.embedding)?$"
)
"""Names that models give to a table with a row for every place of a text."""


@dataclass(frozen=True, eq=False)
class Question:
    """Coalitions in prefix order, and the sequences to observe them on.

    Attributes:
        ordered: The coalitions in `prefix_order`.
        order: Where each of them stood in what was asked.
        sequences: Which texts.
    """

    ordered: Coalitions
    order: Indices
    sequences: Indices

    @property
    def empty(self) -> bool:
        """Whether nothing is asked."""
        return not len(self.ordered) or not len(self.sequences)


def question(
    coalitions: Coalitions, sequences: Indices, n_players: int, n_sequences: int
) -> Question:
    """Check what is asked of a game, and order it.

    Args:
        coalitions: ``(n_coalitions, n_players)``, distinct.
        sequences: Numbers of the texts, distinct.
        n_players: Players of the game.
        n_sequences: Texts of the game.

    Raises:
        ValueError: The coalitions are not this game's, or something is asked for twice.
    """
    coalitions = np.asarray(coalitions, dtype=bool)
    sequences = np.asarray(sequences, dtype=np.intp)
    if coalitions.ndim != 2 or coalitions.shape[1] != n_players:
        raise ValueError(
            f"coalitions have shape {coalitions.shape}; this game wants (n_coalitions, {n_players})"
        )
    order = prefix_order(coalitions)
    ordered = coalitions[order]
    # In prefix order equal coalitions are neighbours and agree on all players.
    if len(ordered) > 1 and common_prefixes(ordered).max() == n_players:
        raise ValueError("a coalition is asked for twice; ask for distinct ones (observe_all)")
    if len(np.unique(sequences)) < len(sequences):
        raise ValueError("a sequence is asked for twice; ask for distinct ones")
    if len(sequences) and not 0 <= sequences.min() <= sequences.max() < n_sequences:
        raise ValueError(
            f"sequences {sequences.min()} to {sequences.max()} were asked for; this game has"
            f" {n_sequences}, counted from 0"
        )
    return Question(ordered, order, sequences)


def longest_text(model: PreTrainedModel) -> int | None:
    """Most tokens of a text that the model has places for; None where its positions are computed.

    Positions it has learned, or tabulated, end somewhere; rotary ones do not.
    """
    tables = [
        (name, module.num_embeddings - _unused(module))
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
    ]
    # Sinusoidal tables are buffers, not embeddings.
    tables += [(name, len(table)) for name, table in model.named_buffers() if table.dim() == 2]
    here = [size for name, size in tables if PLACES.search(name) and not ELSEWHERE.search(name)]
    return min(here, default=None)


def _unused(table: nn.Embedding) -> int:
    """Number of rows at the beginning of a table of positions that no token uses."""
    # OPT and RoBERTa keep the first rows for padding, so fewer places are left than rows.
    padding = -1 if table.padding_idx is None else table.padding_idx
    offset = getattr(table, "offset", 0)
    return padding + 1 + (offset if isinstance(offset, int) else 0)


def checked_tokens(
    tokens: NDArray[np.int64] | Tensor, vocabulary: int, longest: int | None = None
) -> Tensor:
    """The texts as one table of token ids ``(n_sequences, length)``.

    Args:
        tokens: The texts.
        vocabulary: Number of token ids the model knows.
        longest: Most tokens of a text that the model has places for, if there is a limit.

    Raises:
        TextError: They are no such table, are too short or too long, or are not the model's.
    """
    table = torch.as_tensor(tokens).cpu()
    if table.dim() != 2 or table.is_floating_point() or not len(table) or table.shape[1] < 2:
        raise TextError(
            f"tokens have shape {tuple(table.shape)} and type {table.dtype}: give whole numbers of"
            " shape (n_sequences, length), at least one sequence of at least two tokens"
        )
    # A token id beyond the embedding would be a crash on the GPU without a line that says why.
    if int(table.min()) < 0 or int(table.max()) >= vocabulary:
        raise TextError(
            f"token ids run from {int(table.min())} to {int(table.max())}, the model's vocabulary"
            f" has {vocabulary}: use the model's own tokenizer"
        )
    if longest is not None and table.shape[1] > longest:
        raise TextError(
            f"texts have {table.shape[1]} tokens, the model has places for {longest}: use shorter"
            f" ones (--length {longest})"
        )
    return table.to(torch.int64)
