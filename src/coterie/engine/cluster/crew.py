"""What a driver and its workers say to each other; nothing here knows Ray."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from coterie.engine.cost import Spent
from coterie.game.coalitions import Coalitions, Indices, Observations


@dataclass(frozen=True, eq=False)
class CrewQuestion:
    """A question to a crew.

    Attributes:
        game: Which texts: the number of the game.
        ordered: Distinct coalitions in `prefix_order`.
        sequences: Numbers of the texts, distinct.
    """

    game: int
    ordered: Coalitions
    sequences: Indices


@dataclass(frozen=True, eq=False)
class WorkerTask:
    """A part of a question, for one worker.

    Attributes:
        number: Tells it from every other task of this crew.
        game: Which texts: the number of the game.
        coalitions: ``(n_rows, n_players)``, distinct.
        sequences: Numbers of the texts.
        work: What it costs, in layer executions.
    """

    number: int
    game: int
    coalitions: Coalitions
    sequences: Indices
    work: float


@dataclass(frozen=True, eq=False)
class WorkerAnswer:
    """What a worker observed for a task.

    Attributes:
        seen: ``(n_rows, n_sequences)``, in the order of the task.
        spent: What it ran for this.
        seconds: Time in which it computed.
        remarks: What it remarked: coalitions without a finite loss.
        passes: Times it read the weights from disk.
        bytes_read: Of its files, so far.
    """

    seen: Observations
    spent: Spent = field(default_factory=Spent)
    seconds: float = 0.0
    remarks: Sequence[str] = ()
    passes: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, eq=False)
class Answered:
    """A worker has finished a task."""

    worker: str
    number: int
    answer: WorkerAnswer


@dataclass(frozen=True)
class Failed:
    """A worker could not do a task, and is there for others."""

    worker: str
    number: int
    why: str


@dataclass(frozen=True)
class Left:
    """A worker is gone, with all that it was asked."""

    worker: str
    why: str


Event = Answered | Failed | Left


class Crew(Protocol):
    """Workers that come, go, and answer in any order."""

    def members(self) -> Sequence[str]:
        """The workers that take tasks now, by name."""
        ...

    def now(self) -> float:
        """Seconds on the crew's clock."""
        ...

    def send(self, worker: str, task: WorkerTask) -> None:
        """Ask a worker; tasks of one worker are done in the order they were sent."""
        ...

    def wait(self, seconds: float) -> Sequence[Event]:
        """What has happened, at the latest after so many seconds; joining shows in `members`."""
        ...

    def dismiss(self, worker: str, why: str) -> None:
        """Let go of a worker: it is stopped, and nothing of it is listened to any more."""
        ...

    def forget(self, numbers: Sequence[int]) -> None:
        """Nobody waits for these tasks any more."""
        ...
