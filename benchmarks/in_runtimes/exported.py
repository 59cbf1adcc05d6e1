"""What `export` makes of the converter's files: python exported.py WORK."""

import shutil
import sys
from pathlib import Path

from coterie.errors import UserError
from coterie.models.files.sources import resolve
from coterie.verbs.export.gguf_file import check_file, write_pattern


def main() -> None:
    """Every file that is there and has no such twin yet."""
    for file in sorted(Path(sys.argv[1]).glob("*/*.gguf")):
        made = file.with_name(f"{file.stem}.exported.gguf")
        refused = Path(f"{made}.refused")
        if file.stem.endswith(".exported") or made.exists() or refused.exists():
            continue
        source = resolve(str(file.with_suffix("")))
        try:
            shutil.copy(file, made)
            write_pattern(made, source)
            check_file(made, source)
        except UserError as error:
            made.unlink()
            refused.write_text(f"export: {error}")


if __name__ == "__main__":
    main()
