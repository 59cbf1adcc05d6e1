"""The next layer is copied to a GPU while this one computes there."""

import torch
from torch import Tensor

from coterie.engine.disk.parameters import Place


def copies_to(device: torch.device) -> "Copies | None":
    """What copies layers to a device ahead of time; None where they compute where they are read."""
    return Copies(device) if device.type == "cuda" else None


class Copies:
    """Copies of layers to a GPU on a stream of their own, into two halves of a buffer in turn.

    Args:
        device: The GPU.

    Attributes:
        next_half: Where the next layer goes.
        arrived: What `bring` was given last.
    """

    def __init__(self, device: torch.device) -> None:
        self.next_half, self.arrived = 0, list[tuple[Place, Tensor, Tensor]]()
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._free: list[torch.cuda.Event | None] = [None, None]
        self._half = 0

    def begin(self) -> None:
        """The buffer is new: what its memory served before may still be computing."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        self._free = [event, event]

    def bring(self, layer: list[tuple[Place, Tensor, Tensor]]) -> None:
        """Copy a layer, and wait until it is there; called by the thread that reads."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            free = self._free[self.next_half]
            if free is not None:  # the layer that was there before has computed
                self._stream.wait_event(free)
            for _, kept, raw in layer:
                kept.copy_(raw, non_blocking=True)
            self._stream.synchronize()
        self.arrived = layer

    def taken(self) -> None:
        """The layer that arrived computes from now on; the next one goes into the other half."""
        self._half, self.next_half = self.next_half, 1 - self.next_half

    def used(self) -> None:
        """The layer that computes has been given all its work."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        self._free[self._half] = event

    def drain(self) -> None:
        """Wait until everything that was given to the GPU has been computed."""
        torch.cuda.current_stream(self._device).synchronize()
