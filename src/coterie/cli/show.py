"""Run one verb under a progress display and print its one report."""

import json
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from coterie.cli.display.progress import LiveProgress, PlainProgress, make_progress
from coterie.cli.display.terminal import shows_everything
from coterie.verbs.options.run import Report as How

Display = LiveProgress | PlainProgress
"""Where a run says how far it has come."""


class Reported(Protocol):
    """What a verb returns: it can be told as plain JSON."""

    def as_json(self) -> Mapping[str, object]:
        """All of it."""
        ...


Report = TypeVar("Report", bound=Reported)


def show(
    run: Callable[[Display], Report],
    printer: Callable[[Report], None],
    how: How,
    *,
    quiet_libraries: bool = True,
) -> None:
    """Print what a run found: tables for people, or one JSON object for scripts.

    Args:
        run: Does the work and says how far it has come.
        printer: Prints what it found as tables.
        how: Which of the two is wanted.
        quiet_libraries: Silence the bars of transformers; a verb without it need not import that.
    """
    if quiet_libraries:
        from transformers.utils import logging

        logging.disable_progress_bar()  # ours stands in their place
    with make_progress() as progress:
        found = run(progress)
    if how.json:
        record = found.as_json()
        # A record holds no NaN; allow_nan=False would refuse it rather than print invalid JSON.
        # Escaped where the terminal cannot write all signs: a stand-in would be another text.
        escaped = not shows_everything()
        print(json.dumps(record, indent=2, ensure_ascii=escaped, allow_nan=False, default=str))
    else:
        printer(found)
