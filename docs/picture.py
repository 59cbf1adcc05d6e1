"""Draw the terminal picture of the README from a finished run: `python docs/picture.py out`."""

import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console

from coterie.report.schema.record import Record
from coterie.report.terminal.prune import print_record


def main() -> None:
    """Print the record of the folder named on the command line into `docs/terminal.svg`."""
    folder = Path(sys.argv[1])
    content = json.loads((folder / "coterie.json").read_text(encoding="utf-8"))
    record = Record.from_json(content)
    console = Console(record=True, width=98, highlight=False, file=io.StringIO())
    print_record(record, console)
    drawn = console.export_svg(title=record.command)
    alone = re.sub(r"@font-face \{.*?\}\n?", "", drawn, flags=re.DOTALL)  # no font from elsewhere
    Path(__file__).with_name("terminal.svg").write_text(alone, encoding="utf-8")


if __name__ == "__main__":
    main()
