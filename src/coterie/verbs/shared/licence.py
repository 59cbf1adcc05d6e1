"""What the source's model card says of its licence, to be carried into the new card."""

import re
from pathlib import Path

# Language is no licence, but the Hub's search needs it on the new card as well.
_KEYS = ("license", "license_name", "license_link", "language")

# What a licence, its name and a language are written with; nothing that is markup or runs.
_WORDS = re.compile(r"""["']?[\w\[][\w .,+/()\[\]'"-]{0,199}""")
_LINK = re.compile(r"""["']?(?:https?://[\w.,+/()%?=~&@#:-]+|[\w.-]+)["']?""")


def licence_of(card: Path) -> dict[str, str]:
    """The lines of the card's metadata that say how the model may be used; empty if it has none.

    Only plain ``key: value`` lines are carried, and of a value only what such a value is made of:
    the new card is published. The licence files themselves are copied with the checkpoint.
    """
    if not card.is_file():
        return {}
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    # Metadata stands between two lines of dashes at the very top, or there is none.
    if not lines or lines[0].strip() != "---":
        return {}
    found = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")
        form = _LINK if key == "license_link" else _WORDS
        if colon and key in _KEYS and form.fullmatch(value.strip()):
            found[key] = value.strip()
    return found
