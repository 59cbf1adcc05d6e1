"""What the full model did on each text: every pass includes it, so it is known after one."""

import numpy as np

from coterie.game.coalitions import Block, Indices, Observations


class FullSeen:
    """Observations of the full model, by text."""

    def __init__(self) -> None:
        self._seen: dict[int, Observations] = {}

    def knows(self, sequences: Indices) -> bool:
        """Whether it has been observed on all of these."""
        return all(int(sequence) in self._seen for sequence in sequences)

    def note(self, block: Block, full: int, sequences: Indices) -> None:
        """Keep what a block holds of the full model.

        Args:
            block: Of a pass.
            full: The row of the full model.
            sequences: The texts that the columns of the pass stand for.
        """
        for row in np.flatnonzero(block.rows == full):
            for place, column in enumerate(block.columns):
                # Slices, not numbers: the observation keeps its two axes.
                corner = np.s_[row : row + 1, place : place + 1]
                self._seen[int(sequences[column])] = block.observations[corner]

    def block(self, sequences: Indices) -> Block:
        """The answer to a question that asks for the full model alone."""
        table = Observations.empty(1, len(sequences))
        for column, sequence in enumerate(sequences):
            own = np.array([column], dtype=np.intp)
            table.put(Block(np.array([0]), own, self._seen[int(sequence)]))
        return Block(np.array([0]), np.arange(len(sequences)), table)
