"""Who did what where the machines of a cluster played: workers, what was repeated, what failed."""

from dataclasses import dataclass

from coterie.report.schema.part import Part


@dataclass(kw_only=True)
class WorkerPart(Part):
    """What one worker did. Machines are numbered, not named: a name may say whose they are."""

    name: str
    node: int
    parts: int
    """Answers that were taken; a search asks in many parts."""
    coalitions: int
    layer_executions: int
    seconds: float
    """Time in which it computed."""
    speed: float | None
    """Layers per second, over all texts, of what it did last; null where it did nothing."""
    end: str | None = None
    """Why it was gone before the run ended."""


@dataclass(kw_only=True)
class ClusterPart(Part):
    """The cost of playing on several machines at once."""

    worker: str
    """What was reserved for each worker."""
    nodes: int
    workers: list[WorkerPart]
    layer_executions: int
    done_twice: float
    """Share of layer executions beyond those of one machine."""
    asked_again: int
    """Parts that were asked a second time, of another worker."""
    bytes_moved: int
    """Texts, questions and answers, and weights where they were shipped."""
    faults: list[str]
    """What went wrong and was set right, in order."""
