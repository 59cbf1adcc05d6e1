"""Run one pipeline function under a progress display and print its one report."""

import json
from collections.abc import Callable
from typing import TypeVar

from coterie.cli.progress import LiveProgress, PlainProgress, make_progress
from coterie.report.schema.part import Part
from coterie.report.schema.record import Record
from coterie.report.terminal.prune import print_record

Display = LiveProgress | PlainProgress
"""Where a run says how far it has come."""

Report = TypeVar("Report", bound=Part)


def show(run: Callable[[Display], Record], *, as_json: bool) -> None:
    """Print the record `run` returns: tables for people, or one JSON object for scripts."""
    show_with(print_record, run, as_json=as_json)


def show_with(
    printer: Callable[[Report], None], run: Callable[[Display], Report], *, as_json: bool
) -> None:
    """The same for a report of another shape, with a printer of its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # ours stands in their place
    with make_progress() as progress:
        report = run(progress)
    if as_json:
        content = report.as_json()
        print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        printer(report)
