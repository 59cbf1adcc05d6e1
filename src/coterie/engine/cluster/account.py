"""Who did what: the speed of every worker, what it ran, and what went wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field

from coterie.engine.cluster.crew import WorkerAnswer, WorkerTask
from coterie.engine.cost import Spent


@dataclass
class Did:
    """What one worker did so far.

    Attributes:
        name: Of the worker.
        node: Which node it is on, by its number in this run; 0 where that is not known.
        parts: Answers that were taken.
        coalitions: Coalitions in these.
        speed: Work per second, by what it did lately; None before it was measured.
        seconds: Time in which it computed.
        spent: What it ran.
        passes: Times it read the weights from disk.
        bytes_read: Of its files.
        moved: Bytes of questions and answers.
        end: Why it is gone; empty while it is there.
    """

    name: str
    node: int = 0
    parts: int = 0
    coalitions: int = 0
    speed: float | None = None
    seconds: float = 0.0
    spent: Spent = field(default_factory=Spent)
    passes: int = 0
    bytes_read: int = 0
    moved: int = 0
    end: str = ""


@dataclass
class CrewAccount:
    """What all workers of a crew did, over all texts.

    Attributes:
        say: Told what goes wrong, when it does.
        workers: By name, in the order in which they were first asked.
        faults: What went wrong and was set right, one line each.
        needed: Layers that one machine would have run for the same questions.
        repeated: Parts that were asked a second time.
    """

    say: Callable[[str], None] = lambda _: None
    workers: dict[str, Did] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    needed: int = 0
    repeated: int = 0

    def fault(self, line: str) -> None:
        """Write down what went wrong and was set right, and say it."""
        self.faults.append(line)
        self.say(f"warning: {line}")

    def of(self, name: str) -> Did:
        """The line of a worker; a new one where it has none."""
        return self.workers.setdefault(name, Did(name))

    def note(self, name: str, task: WorkerTask, answer: WorkerAnswer) -> None:
        """Write down what a worker did for a task.

        Args:
            name: Of the worker.
            task: What it was asked.
            answer: What it answered.
        """
        did = self.of(name)
        did.parts += 1
        did.coalitions += len(task.coalitions)
        did.seconds += answer.seconds
        did.spent = did.spent + answer.spent
        did.passes += answer.passes
        did.bytes_read = max(did.bytes_read, answer.bytes_read)
        did.moved += task.coalitions.nbytes + task.sequences.nbytes + 3 * answer.seen.nll.nbytes
        if answer.seconds > 0:
            speed = task.work / answer.seconds
            # The first part prepares the texts besides, so it says too little.
            did.speed = speed if did.parts <= 2 or did.speed is None else (did.speed + speed) / 2

    def speeds(self, names: list[str]) -> dict[str, float]:
        """Work per second of these workers; of one that is not known, what is usual."""
        known = [did.speed for did in self.workers.values() if did.speed is not None]
        usual = sum(known) / len(known) if known else 1.0
        return {name: self.of(name).speed or usual for name in names}

    def spent(self) -> Spent:
        """What all workers ran."""
        return sum((did.spent for did in self.workers.values()), Spent())

    def passes(self) -> int:
        """How often all workers together read the weights from disk."""
        return sum(did.passes for did in self.workers.values())

    def moved(self) -> int:
        """Bytes of all questions and answers."""
        return sum(did.moved for did in self.workers.values())

    def twice(self) -> float:
        """Share of the layers that were run beyond what one machine would have run."""
        return self.spent().layer_executions / max(self.needed, 1) - 1
