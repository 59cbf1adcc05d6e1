"""Progress on stderr: a live bar on a terminal, a plain line now and then without one."""

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Often enough to show life, rare enough for a log file.
_PLAIN_SECONDS = 5.0

_AT_ONCE = 0.5
"""Seconds of a stage in which what is reported comes from a store."""


def make_progress(*, quiet: bool = False) -> "LiveProgress | PlainProgress":
    """The display that fits where stderr goes; quiet shows nothing but warnings."""
    # Bars redraw themselves, and fill a log file with control characters.
    if not quiet and sys.stderr.isatty():
        return LiveProgress()
    return PlainProgress(quiet)


class LiveProgress:
    """A rich bar per stage, with time left, within 80 columns. A context manager."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:<30}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=self.console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "LiveProgress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_all()
        self._bars.stop()

    def _end_all(self) -> None:
        """A stage that is over has a full bar, also where it ended before its limit."""
        for task in self._bars.tasks:
            self._bars.update(task.id, total=max(task.completed, 1), completed=task.completed or 1)

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        self.console.print(line, highlight=False, markup=False)

    def step(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage has come.

        Args:
            stage: Its name, shown before the bar.
            done: Units done so far.
            total: Units there are.
        """
        # A stage is met on its first step: no verb has to announce its stages.
        if stage not in self._tasks:
            self._end_all()
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)


class PlainProgress:
    """A line when a stage begins and ends, and every few seconds between. A context manager."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._stage, self._began, self._said = "", 0.0, 0.0
        self._done = self._known = 0

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        """Print one line."""
        # Quiet or not, a warning is part of the result.
        if not self._quiet or line.startswith("warning"):
            print(line, file=sys.stderr, flush=True)

    def step(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage has come, if it is time to.

        Args:
            stage: Its name; a new one begins a new count.
            done: Units done so far.
            total: Units there are.
        """
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._said = stage, now, now
            self._known = done
            self.say(f"{stage}: {done}/{total}")
        # The same count again is no news; a stage that ends is always told.
        elif done == self._done:
            return
        elif done == total:
            self.say(f"{stage}: {done}/{total} in {now - self._began:.1f} s")
        elif now - self._said >= _PLAIN_SECONDS:
            self._said = now
            rate = (done - self._known) / (now - self._began)
            left = f", {(total - done) / rate:.0f} s left" if rate else ""
            self.say(f"{stage}: {done}/{total} ({rate:,.1f}/s{left})")
        # What comes at once was known before: rates are of new work.
        if now - self._began < _AT_ONCE:
            self._known = done
        self._done = done
