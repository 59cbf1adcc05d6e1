"""What the pages of `docs/` promise of themselves."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_log_is_newest_first():
    page = (DOCS / "log.md").read_text(encoding="utf-8")
    dates = re.findall(r"(?m)^## (\d{4}-\d\d-\d\d) ", page)
    assert len(dates) == page.count("\n## ") and dates == sorted(dates, reverse=True)
