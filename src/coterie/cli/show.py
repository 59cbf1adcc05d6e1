"""Run one pipeline function under a progress display and print its one report."""

import json
from collections.abc import Callable

from coterie.cli.progress import LiveProgress, PlainProgress, make_progress
from coterie.report.terminal import print_record

Display = LiveProgress | PlainProgress
"""Where a run says how far it has come."""


def show[R](
    run: Callable[[Display], R], *, as_json: bool, printer: Callable[[R], None] = print_record
) -> None:
    """Print the record `run` returns: tables for people, or one JSON object for scripts."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # ours stands in their place
    with make_progress() as progress:
        record = run(progress)
    if as_json:
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        printer(record)
