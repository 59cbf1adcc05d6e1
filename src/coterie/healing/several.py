"""One process, or several that share each batch: started by `accelerate launch`, one a GPU.

Every process holds the whole student and reads its share of each batch; gradients are averaged
before the step, so all hold the same weights and any of them may write them.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from coterie.game.coalitions import Indices
from coterie.healing.origin import HealError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor


class Processes(Protocol):
    """Those who learn together."""

    @property
    def writes(self) -> bool:
        """Whether this one writes files."""
        ...

    def share(self, rows: Indices) -> Indices:
        """The rows of a batch that are read here."""
        ...

    def average(self, gradients: "Iterable[Tensor]") -> None:
        """Put the mean of all processes in place of each gradient."""
        ...

    def wait(self) -> None:
        """Go on when all have come here."""
        ...


class OneProcess:
    """Nobody to share with."""

    writes = True

    def share(self, rows: Indices) -> Indices:
        """All rows."""
        return rows

    def average(self, gradients: "Iterable[Tensor]") -> None:
        """Nothing to do."""

    def wait(self) -> None:
        """Nobody to wait for."""


class Accelerated:
    """The processes that `accelerate launch` started.

    Args:
        accelerator: Of this process; None makes one.
    """

    def __init__(self, accelerator: "Accelerator | None" = None) -> None:
        from accelerate import Accelerator

        self._all = accelerator or Accelerator()

    @property
    def writes(self) -> bool:
        """Whether this is the main process."""
        return bool(self._all.is_main_process)

    def share(self, rows: Indices) -> Indices:
        """Every n-th row, beginning with the number of this process.

        Raises:
            HealError: there are fewer rows than processes, or they do not divide.
        """
        count = self._all.num_processes
        if len(rows) % count:
            raise HealError(
                f"a batch of {len(rows)} sequences cannot be shared by {count} processes alike:"
                f" give a --batch that is a multiple of {count}"
            )
        return np.asarray(rows[self._all.process_index :: count])

    def average(self, gradients: "Iterable[Tensor]") -> None:
        """The mean over all processes, in place."""
        for one in gradients:
            one.copy_(self._all.reduce(one, reduction="mean"))

    def wait(self) -> None:
        """Go on when all have come here."""
        self._all.wait_for_everyone()


def launched() -> int:
    """How many processes `accelerate launch` (or torchrun) started; 1 where none did."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


def own_device(asked: str) -> str:
    """The device of this process: of several on GPUs each has its own."""
    if launched() > 1 and asked in ("auto", "cuda"):
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return asked


def processes() -> Processes:
    """Those who learn together with this process.

    Raises:
        HealError: several were started and accelerate is not installed.
    """
    if launched() < 2:
        return OneProcess()
    try:
        return Accelerated()
    except ImportError as error:
        raise HealError(
            "several processes heal together by accelerate: pip install 'coterie[heal]'"
        ) from error
