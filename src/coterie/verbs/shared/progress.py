"""Where a run says how far it has come."""

from typing import Protocol


class Progress(Protocol):
    """Where a run says how far it has come."""

    def say(self, line: str) -> None:
        """Print one line."""
        ...

    def step(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage has come.

        Args:
            stage: What is being done.
            done: Steps that are done.
            total: Steps in all.
        """
        ...


class NoProgress:
    """No display: what the Python interface uses unless given one."""

    def say(self, line: str) -> None:
        """Nothing."""

    def step(self, stage: str, done: int, total: int) -> None:
        """Nothing.

        Args:
            stage: What is being done.
            done: Steps that are done.
            total: Steps in all.
        """
