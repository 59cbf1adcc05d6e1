"""Draw the terminal picture of the README from the record of a run.

python docs/picture.py out      copies the record of a finished run, and draws
python docs/picture.py          draws the record that is kept
"""

import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console

from coterie.report.schema.record import Record
from coterie.report.terminal.prune import print_record

KEPT = Path(__file__).parent / "figures" / "terminal.json"
"""The record that the picture shows."""

PICTURE = Path(__file__).with_name("terminal.svg")

WIDTH = 80
"""Columns of the terminal that is drawn."""


def drawn(record: Record) -> str:
    """What the command prints for a record, as a picture without a font from elsewhere."""
    console = Console(record=True, width=WIDTH, highlight=False, file=io.StringIO())
    print_record(record, console)
    svg = console.export_svg(title=record.command, unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)


def kept() -> Record:
    """The record that is kept beside the figures."""
    return Record.from_json(json.loads(KEPT.read_text(encoding="utf-8")))


def main() -> None:
    """Draw the kept record, or first that of the folder named on the command line."""
    if len(sys.argv) > 1:
        KEPT.write_bytes((Path(sys.argv[1]) / "coterie.json").read_bytes())
    PICTURE.write_text(drawn(kept()), encoding="utf-8")


if __name__ == "__main__":
    main()
