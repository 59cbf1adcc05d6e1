"""What workers were sent and have not answered, in order, and when an answer is overdue."""

from collections import deque
from dataclasses import dataclass, field

from coterie.engine.cluster.account import CrewAccount
from coterie.engine.cluster.crew import WorkerAnswer, WorkerTask
from coterie.engine.cluster.limits import Limits
from coterie.game.coalitions import Indices


@dataclass(frozen=True, eq=False)
class AskedPart:
    """Rows of the sorted question that are asked together.

    Attributes:
        rows: Which.
        work: What they cost.
        barred: Workers that are not asked again.
        tries: How often it failed.
        doubted: Who first answered, and what, where that was not finite.
    """

    rows: Indices
    work: float
    barred: frozenset[str] = frozenset()
    tries: int = 0
    doubted: tuple[str, WorkerAnswer] | None = None


@dataclass(eq=False)
class Hands:
    """What one worker was sent and has not answered, in order.

    Attributes:
        parts: The tasks, and the parts they stand for.
        since: When it began with the first of them.
        failures: Tasks it failed on since it last answered.
    """

    parts: deque[tuple[WorkerTask, AskedPart]] = field(default_factory=deque)
    since: float = 0.0
    failures: int = 0

    def take(self, number: int, now: float) -> tuple[WorkerTask, AskedPart] | None:
        """The task that is answered; None where it is not the one that is waited for.

        An answer to an earlier question, which nobody waits for any more, is not.
        """
        if not self.parts or self.parts[0][0].number != number:
            return None
        self.since = now
        return self.parts.popleft()


def deadline(name: str, hands: Hands, account: CrewAccount, limits: Limits) -> float:
    """When a worker that holds a part is taken to hang, by what its own speed promises.

    Args:
        name: Of the worker.
        hands: What it holds.
        account: Knows its speed.
        limits: How much longer it may take.
    """
    speed = account.of(name).speed
    if speed is None:
        return hands.since + limits.first_answer
    return hands.since + limits.floor + limits.times * hands.parts[0][1].work / speed
