"""The page of a run, beside its record: `report.html`."""

import logging
from pathlib import Path

from coterie.report.page.build import PageEntry, Shown, page

PAGE = "report.html"

logger = logging.getLogger(__name__)


def write_page(folder: Path, record: Shown) -> None:
    """Write `report.html`; a page that fails is a warning, for the run itself is whole without it.

    Args:
        folder: Folder of the run, as it is being written.
        record: What the run found.
    """
    try:
        (folder / PAGE).write_text(page([PageEntry("", record)]), encoding="utf-8")
    # Whatever it is: the checkpoint is proved, and the record holds all that the page shows.
    except Exception as error:
        (folder / PAGE).unlink(missing_ok=True)
        told = " ".join(str(error).split())
        logger.warning("no %s was written: %s: %.200s", PAGE, type(error).__name__, told)
