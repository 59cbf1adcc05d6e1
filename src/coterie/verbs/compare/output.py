"""Where a comparison is written: four files in a folder that is whole or not there."""

import json
from pathlib import Path

from coterie.errors import UserError
from coterie.plain import Json
from coterie.report.figure.compare import draw_comparison
from coterie.report.schema.compare import Comparison
from coterie.report.terminal.compare import as_csv, markdown
from coterie.verbs.shared.output import check_output, written_aside

NAME = "comparison"


def check_place(output: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Refuse a folder that holds something else, or cannot be written.

    Args:
        output: The folder.
        overwrite: Another comparison that is there is replaced.
        source: Folder of the model that is read.

    Raises:
        UserError: one clear line; nothing was changed.
    """
    if ended_comparison(output) is not None:
        if not overwrite:
            raise UserError(
                f"--output {output} holds another comparison: name another folder, or add"
                " --overwrite"
            )
        return
    if overwrite and output.is_dir() and any(output.iterdir()):
        raise UserError(
            f"--output {output} holds no comparison, so --overwrite does not replace it: name"
            " another folder"
        )
    check_output(output, overwrite=False, source=source)


def ended_comparison(output: Path) -> tuple[Comparison, Json] | None:
    """The comparison that ended in this folder, and what decided its answer; or None."""
    try:
        found = json.loads((output / f"{NAME}.json").read_text(encoding="utf-8"))
        if found["kind"] != "compare":
            return None
        comparison = Comparison.from_json(found)
    except (OSError, ValueError, TypeError, KeyError):  # none, or none of ours
        return None
    return comparison, comparison.identity


def write_comparison(found: Comparison, output: Path) -> None:
    """Write JSON, Markdown, CSV and the figure."""
    # Beside its place and renamed: a reader finds all four files, or none.
    with written_aside(output) as folder:
        text = json.dumps(found.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")
        (folder / f"{NAME}.md").write_text(markdown(found), encoding="utf-8")
        (folder / f"{NAME}.csv").write_text(as_csv(found), encoding="utf-8")
        draw_comparison(found, folder / f"{NAME}.svg")
