"""Layer numbers inside `quantization_config`: which modules are left out or packed otherwise."""

import re
from collections.abc import Callable

from coterie.errors import ModelError

Renumber = Callable[[int], int | None]
"""The new number of a layer, or None if it is cut."""

_ANY_LIST = r"(?<![A-Za-z0-9_\\])\\?\.\d+\\?\."  # ".*\.18\..*": layer 18 of whichever list

_SETS_OF_LAYERS = r"\\?\.(?:\(|\[)[^)\]]*\d"  # "layers.(0|1)", "layers\.[0-3]"


def renumber_quantization(value: object, list_name: str, renumber: Renumber) -> object:
    """A `quantization_config`, or any part of it, with its layer numbers brought up to date.

    Entries of lists and keys of tables that name a layer that is cut are left out.

    Args:
        value: The part: a table, a list, a text or anything else, which stays as it is.
        list_name: Last word of the stack's path, such as ``"layers"``.
        renumber: The new number of each layer.

    Raises:
        ModelError: A pattern names several layers at once, so it cannot be renumbered.
    """
    if isinstance(value, str):
        return _renumbered_text(value, list_name, renumber)
    if isinstance(value, list | tuple):
        items = [renumber_quantization(item, list_name, renumber) for item in value]
        return [
            new for new, old in zip(items, value, strict=True) if new is not None or old is None
        ]
    if isinstance(value, dict):
        table = {}
        for key, inner in value.items():
            name = renumber_quantization(key, list_name, renumber)
            if name is not None:
                table[name] = renumber_quantization(inner, list_name, renumber)
        return table
    return value


def _renumbered_text(text: str, list_name: str, renumber: Renumber) -> str | None:
    word = rf"(?<![A-Za-z0-9_]){re.escape(list_name)}"
    if re.search(word + _SETS_OF_LAYERS, text):
        raise ModelError(
            f"quantization_config names several layers in one pattern ({text!r}), which a cut would"
            " have to rewrite: spell its layers out, one entry each, and cut again"
        )
    match = re.search(rf"{word}\\?\.(\d+)", text)
    if match is None:
        if re.search(_ANY_LIST, text):
            raise ModelError(
                f"quantization_config names a layer by a pattern without its list ({text!r}): write"
                f" the list out, as in {list_name}.18, and cut again"
            )
        return text
    number = renumber(int(match[1]))
    if number is None:
        return None
    return f"{text[: match.start(1)]}{number}{text[match.end(1) :]}"
