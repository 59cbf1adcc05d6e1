"""Draw the picture of a run's page for the README: `python docs/page_picture.py out`.

It needs `pip install coterie[browser]` and a Chromium: the system's, or Playwright's own.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1080, 1260
"""Of the part that is shown, from the top of the page."""

SHARP = 1.5
"""Dots of the picture for one of the page."""

COLOURS = 128
"""Enough for text and bars; more would only make the file larger."""


def main() -> None:
    """Draw `report.html` of the folder named on the command line into `docs/page.png`."""
    page = Path(sys.argv[1]) / "report.html"
    Image.open(io.BytesIO(_shot(page))).convert("RGB").quantize(COLOURS).save(
        Path(__file__).with_name("page.png"), optimize=True
    )


def _shot(file: Path) -> bytes:
    with sync_playwright() as running:
        # Without its sandbox, which containers do not allow; the only page is ours.
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=SHARP
        )
        page.goto(file.resolve().as_uri())
        shot = page.screenshot()
        browser.close()
        return shot


if __name__ == "__main__":
    main()
