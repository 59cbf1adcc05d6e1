"""Observations on their way from a device to main memory."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from coterie.engine.parts.readings import Reading, means
from coterie.game.coalitions import Block, Indices, Observations

Corner = tuple[slice, slice]
"""Which coalitions of a block, and which of its sequences."""


@dataclass(eq=False)
class Unread:
    """A block whose numbers may still be computed on a GPU; nobody has waited for them yet.

    Attributes:
        rows: The coalitions of the block.
        columns: Its sequences.
    """

    rows: Indices
    columns: Indices
    _sent: list[tuple[Corner, Tensor]] = field(default_factory=list)
    _arrived: list[torch.cuda.Event] = field(default_factory=list)

    def send(self, corner: Corner, reading: Reading) -> None:
        """Send a part of the block on its way, without waiting where a GPU computes it."""
        found = means(reading)
        if found.device.type != "cuda":
            self._sent.append((corner, found.cpu()))
            return
        # Only pinned memory is written to while both processors go on with other work.
        there = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        there.copy_(found, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(found.device))
        self._sent.append((corner, there))
        self._arrived.append(event)

    def block(self) -> Block:
        """The block, once all of it has arrived."""
        for event in self._arrived:
            event.synchronize()
        seen = Observations.empty(len(self.rows), len(self.columns))
        for corner, found in self._sent:
            seen.nll[corner], seen.kl[corner], seen.top1[corner] = found.numpy()
        return Block(np.asarray(self.rows, dtype=np.intp), self.columns, seen)
