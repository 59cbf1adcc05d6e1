"""What a trial is: one number in, one line of JSON out."""

from collections.abc import Callable
from typing import TypedDict

from .home import Home


class Trial(TypedDict, total=False):
    """What was done, how it ended, and what did not hold.

    Attributes:
        what: What was tried, in the words under which trials are counted.
        exit: The exit code, or codes.
        faults: What did not hold; empty where everything did.
        kills: How many runs were killed.
        moments: When, or at what, the run was disturbed.
        examples: How many mutations a batch tried.
        ends: How many of them ended with which code.
        said: The end of what the command said.
    """

    what: str
    exit: object
    faults: list[str]
    kills: int
    moments: list[str]
    examples: int
    ends: dict[str, int]
    said: str


Section = Callable[[Home, int], Trial]
