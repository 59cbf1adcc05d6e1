"""What a terminal cannot show is shown in letters that every terminal has."""

import codecs
import sys
import unicodedata

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
    for stream in (sys.stdout, sys.stderr):
        # What a test or a notebook puts there may not be a stream of bytes at all.
        if (change := getattr(stream, "reconfigure", None)) is not None:
            change(errors=_HANDLER)


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
