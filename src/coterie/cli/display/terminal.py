"""What a terminal cannot show is shown in letters that every terminal has."""

import codecs
import os
import sys
import unicodedata
from pathlib import Path
from typing import TextIO

_PLAIN = {
    "×": "x",
    "±": "+/-",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "·": ".",
    "•": "*",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "░": ".",
    "▒": ":",
    "▓": "#",
    "█": "#",
    "━": "-",
    "╸": "-",
    "╺": "-",
    "│": "|",
    "─": "-",
}
"""Signs that our reports use, and what stands for each where it cannot be written."""

_HANDLER = "coterie.plain"


def degrade() -> None:
    """Let standard output and error write what they cannot encode in plain letters."""
    codecs.register_error(_HANDLER, _in_plain_letters)
    # A caller may have closed them (`2>&-`); then Python has none, and nothing is to be shown.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        # What a test or a notebook puts there may not be a stream of bytes at all.
        if (change := getattr(stream, "reconfigure", None)) is not None:
            change(errors=_HANDLER)


def flush() -> str | None:
    """Write out what standard output still holds: None, or why it could not be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python would try once more at its end, and show where it failed.
        sys.stdout = _nowhere()
        return error.strerror or str(error)
    return None


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def shows_everything() -> bool:
    """Whether standard output can write any sign."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_plain(sign) for sign in signs), error.end


def _plain(sign: str) -> str:
    """A sign in letters of ASCII: its stand-in, its letter without accents, or its number."""
    if (stand_in := _PLAIN.get(sign)) is not None:
        return stand_in
    bare = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return bare or sign.encode("ascii", "backslashreplace").decode()
