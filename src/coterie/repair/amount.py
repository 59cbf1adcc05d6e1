"""How much text a repair is fitted on, and what it takes.

More text is better, and more is what a GPU has time for.
"""

from dataclasses import dataclass

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from coterie.engine.memory import free_bytes
from coterie.errors import RepairError
from coterie.models.families.fields import text_config
from coterie.report.words import size

IN_A_GAME = 2
"""Tokens for every column, where hundreds of coalitions are repaired to be compared."""

LEAST, MOST = 4, 128
"""The same for the repair that is written: 121 a column still gave back more than 62 did
(docs/log.md)."""

AFFORDED, AFFORDED_ON_A_GPU = 1 << 15, 1 << 18
"""Tokens that are enough where they are between the least and the most: minutes on two processor
cores, seconds on a GPU, for a model of 135 million parameters."""


def columns_of(config: PretrainedConfig) -> int:
    """Columns of the widest fit: the maps of both blocks of a layer side by side."""
    width = int(getattr(config, "hidden_size", 0) or 0)
    return width + int(getattr(config, "intermediate_size", 0) or 4 * width)


def sequences_in_a_game(config: PretrainedConfig, length: int) -> int:
    """Sequences to fit on in the repaired game.

    Args:
        config: Of the text model.
        length: Tokens of a sequence.
    """
    return max(8, -(-IN_A_GAME * columns_of(config) // length))


def sequences_to_fit(config: PretrainedConfig, length: int, device: str) -> int:
    """Sequences to fit the repair on that is written.

    Args:
        config: Of the text model.
        length: Tokens of a sequence.
        device: Type of the device: ``"cpu"``, ``"cuda"`` ….
    """
    columns = columns_of(config)
    afforded = AFFORDED if device == "cpu" else AFFORDED_ON_A_GPU
    return max(8, -(-max(LEAST * columns, min(MOST * columns, afforded)) // length))


def check_states_fit(model: PreTrainedModel, n_layers: int, tokens: Tensor) -> None:
    """Refuse a repaired game whose states do not fit into the memory that is free.

    Args:
        model: The full model.
        n_layers: Its layers: the states between all of them are held, and those of one way kept.
        tokens: Of all texts, to fit on and to judge by, ``(n_sequences, length)``.

    Raises:
        RepairError: One line with both numbers.
    """
    width = int(getattr(text_config(model.config), "hidden_size", 0) or 0)
    needed = (2 * n_layers + 1) * tokens.numel() * width * model.dtype.itemsize
    if needed > (free := free_bytes(tokens.device)):
        raise RepairError(
            f"the states of {len(tokens)} texts between {n_layers} layers take {size(needed)}, and"
            f" {tokens.device} has {size(free)} free: give fewer --sequences"
        )


SUMS = 4
"""Matrices as wide as the widest fit in memory at once: of the texts to fit on, of those that
choose the ridge, and two on the way to a solution."""


@dataclass(frozen=True)
class RepairBytes:
    """What a repair from disk takes at most.

    Attributes:
        weights: Of two layers, or of what lies outside of them.
        states: Of the texts on their way.
        sums: Of the widest fit, in float64.
        files: Changed weights in temporary files.
    """

    weights: int
    states: int
    sums: int
    files: int

    @property
    def memory(self) -> int:
        """Bytes of memory in all."""
        return self.weights + self.states + self.sums
