"""One process, or several that share each batch: started by `accelerate launch`, one a GPU.

Every process holds the whole student and reads its share of each batch; gradients are averaged
before the step, so all hold the same weights and any of them may write them.
"""

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import numpy as np

from coterie.game.coalitions import Indices
from coterie.healing.origin import HealError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor


_PATIENCE = timedelta(days=7)
"""How long one waits for the others: a teacher may be asked for hours by the main one alone."""


class Processes(Protocol):
    """Those who learn together."""

    @property
    def writes(self) -> bool:
        """Whether this one writes files."""
        ...

    @property
    def count(self) -> int:
        """How many they are."""
        ...

    def share(self, rows: Indices) -> Indices:
        """The rows of a batch that are read here."""
        ...

    def average(self, gradients: "Iterable[Tensor]") -> None:
        """Put the mean of all processes in place of each gradient."""
        ...

    def mains(self, number: int) -> int:
        """The main process's number, whatever the others have."""
        ...

    def wait(self) -> None:
        """Go on when all have come here."""
        ...


class OneProcess:
    """Nobody to share with."""

    writes, count = True, 1

    def share(self, rows: Indices) -> Indices:
        """All rows."""
        return rows

    def average(self, gradients: "Iterable[Tensor]") -> None:
        """Nothing to do."""

    def mains(self, number: int) -> int:
        """The number."""
        return number

    def wait(self) -> None:
        """Nobody to wait for."""


class Accelerated:
    """The processes that `accelerate launch` started.

    Args:
        accelerator: Of this process; None makes one.
    """

    def __init__(self, accelerator: "Accelerator | None" = None) -> None:
        from accelerate import Accelerator, InitProcessGroupKwargs

        patient = InitProcessGroupKwargs(timeout=_PATIENCE)
        self._all = accelerator or Accelerator(kwargs_handlers=[patient])

    @property
    def writes(self) -> bool:
        """Whether this is the main process."""
        return bool(self._all.is_main_process)

    @property
    def count(self) -> int:
        """How many were started."""
        return int(self._all.num_processes)

    def share(self, rows: Indices) -> Indices:
        """Every n-th row, beginning with the number of this process.

        Raises:
            HealError: there are fewer rows than processes, or they do not divide.
        """
        if len(rows) % self.count:
            raise HealError(
                f"a batch of {len(rows)} sequences cannot be shared by {self.count} processes"
                f" alike: give a --batch that is a multiple of {self.count}"
            )
        return np.asarray(rows[self._all.process_index :: self.count])

    def average(self, gradients: "Iterable[Tensor]") -> None:
        """The mean over all processes, in place."""
        for one in gradients:
            # What was measured lies on the CPU, from which GPUs exchange nothing.
            one.copy_(self._all.reduce(one.to(self._all.device), reduction="mean"))

    def mains(self, number: int) -> int:
        """The main process's number: the sum to which the others add nothing."""
        import torch

        own = torch.tensor(number if self.writes else 0, device=self._all.device)
        return int(self._all.reduce(own, reduction="sum"))

    def wait(self) -> None:
        """Go on when all have come here."""
        self._all.wait_for_everyone()


def main_alone(here: Processes, done: Callable[[], bool], work: Callable[[], None]) -> None:
    """Have the main process do some work, while the others wait.

    Args:
        here: Those who learn together.
        done: Whether it was done before; asked of the main process alone.
        work: What it does then.
    """
    # Nobody is still looking at what lies there when the work begins, nor before it ends.
    here.wait()
    if here.writes and not done():
        work()
    here.wait()


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
