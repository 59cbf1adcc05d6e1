"""Run one verb under a progress display and print its one report."""

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from coterie.cli.progress import LiveProgress, PlainProgress, make_progress
from coterie.report.schema.part import Part
from coterie.verbs.options.run import Report as How

Display = LiveProgress | PlainProgress
"""Where a run says how far it has come."""


Report = TypeVar("Report")


def show(run: Callable[[Display], Report], printer: Callable[[Report], None], how: How) -> None:
    """Print what a run found: tables for people, or one JSON object for scripts.

    Args:
        run: Does the work and says how far it has come.
        printer: Prints what it found as tables.
        how: Which of the two is wanted.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # ours stands in their place
    with make_progress() as progress:
        found = run(progress)
    if how.json:
        record = _plain(found)
        # A record holds no NaN; allow_nan=False would refuse it rather than print invalid JSON.
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False, default=str))
    else:
        printer(found)


def _plain(found: object) -> object:
    """A report as plain JSON: a record, or what holds one."""
    if isinstance(found, Part):
        return found.as_json()
    return found if isinstance(found, Mapping) else _plain(getattr(found, "record"))  # noqa: B009
