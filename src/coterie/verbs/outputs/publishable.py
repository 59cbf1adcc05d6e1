"""What must not be published: paths of this machine, and what opens somebody's account."""

import os
import re
from pathlib import Path

from coterie.errors import UserError

# Kinds of files in which a path or a key could stand.
_TEXTS = (".json", ".md", ".txt", ".jinja", ".py", ".svg", "")

_SECRET = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{32,})\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


class PushError(UserError):
    """A checkpoint that must not, or cannot, be uploaded."""


def check_publishable(file: Path, folder: Path) -> None:
    """Refuse a file that tells where it was made, or that holds a key.

    Args:
        file: One that would be uploaded.
        folder: Of the checkpoint.

    Raises:
        PushError: names the file and what stands in it.
    """
    # A tokenizer holds every word there is, and no file of the machine writes into it.
    if file.suffix not in _TEXTS or file.name == "tokenizer.json":
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    home = os.environ.get("HOME") or "/"  # none: then no file can name it
    places = {str(folder.resolve().parent), home, str(Path.cwd())}
    for place in sorted(places):
        if len(Path(place).parts) > 1 and re.search(rf"{re.escape(place)}(?![\w-])", text):
            raise PushError(
                f"{file.name} names a folder of this machine ({place}): take it out, then push"
            )
    found = _SECRET.search(text)
    if found is not None:
        raise PushError(
            f"{file.name} holds what looks like a key ({found[0][:6]}…): take it out, let it be"
            " replaced by a new one, then push"
        )
