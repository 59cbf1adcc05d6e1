"""Where a comparison is written: files in a folder that is whole or not there."""

import json
from pathlib import Path

from coterie.plain import Json, parsed
from coterie.report.figure.compare import draw_comparison
from coterie.report.schema.compare import Comparison
from coterie.report.terminal.compare import as_csv, markdown
from coterie.verbs.outputs.page import write_page
from coterie.verbs.outputs.place import Content, OutputFolder

NAME = "comparison"


def ended_comparison(output: Path) -> tuple[Comparison, Json] | None:
    """The comparison that ended in this folder, and what decided its answer; or None."""
    try:
        found = parsed((output / f"{NAME}.json").read_text(encoding="utf-8"))
        if found["kind"] != "compare":
            return None
        comparison = Comparison.from_json(found)
    except (OSError, ValueError, TypeError, KeyError):  # none, or none of ours
        return None
    return comparison, comparison.identity


COMPARISON = Content(
    "comparison", lambda folder: ended_comparison(folder) is not None, "holds another comparison"
)


def write_comparison(found: Comparison, place: OutputFolder) -> None:
    """Write JSON, Markdown, CSV, the figure and the page."""
    # Beside its place and renamed: a reader finds all files, or none.
    with place.written() as folder:
        write_files(found, folder)


def write_files(found: Comparison, folder: Path) -> None:
    """Write all that a comparison leaves into a folder that is there."""
    text = json.dumps(found.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{NAME}.md").write_text(markdown(found), encoding="utf-8")
    (folder / f"{NAME}.csv").write_text(as_csv(found), encoding="utf-8")
    draw_comparison(found, folder / f"{NAME}.svg")
    write_page(folder, found)
