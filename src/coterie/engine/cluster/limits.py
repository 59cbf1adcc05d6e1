"""How long a worker may take, how large its parts are, and how often a part is asked again."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is expected of workers; the defaults suit machines that are minutes apart at most.

    Attributes:
        shortest: Seconds that a part takes at least: below, sending it would cost too much.
        longest: Seconds that a part takes at most: so much is lost where a worker dies.
        times: A worker is taken to hang that takes so many times what its own speed promises,
        floor: and so many seconds more.
        first_answer: Seconds that a worker of unknown speed may take: it prepares its texts first.
        tries: Workers that may fail on one part before the run ends.
        alone: Seconds to wait for a worker when none is left.
        whole: Whether a worker is asked everything at once, as where each part reads all weights.
    """

    shortest: float = 0.1
    longest: float = 30.0
    times: float = 10.0
    floor: float = 60.0
    first_answer: float = 1800.0
    tries: int = 4
    alone: float = 120.0
    whole: bool = False
