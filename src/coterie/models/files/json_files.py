"""JSON files of a checkpoint, read in one place: what is wrong with one is told in one line."""

import json
import re
from pathlib import Path

from coterie.errors import ModelError

Fields = dict[str, object]
"""What a JSON object holds."""

_LARGEST = 200 * 2**20
"""Bytes; the index of the largest model published is a tenth of this."""

_LIMITS = {
    re.compile(r"(layers?|blocks?|depth)$"): 2_000,  # so many are built within seconds
    re.compile(r"experts?$"): 20_000,
}
_DEEPEST = 64

LFS_POINTER = b"version https://git-lfs"
"""How the small file begins that Git leaves where a large one was not fetched."""


def read_json(file: Path, shown: str) -> Fields:
    """The object that a JSON file of a checkpoint holds, as plain data.

    Args:
        file: The file.
        shown: What a message calls the model.

    Raises:
        ModelError: It cannot be read, is no JSON, or holds something else than an object.
    """
    try:
        if file.stat().st_size > _LARGEST:
            raise _refused(file, shown, "is too large for one: is it another file?")
        content = file.read_bytes()
    except OSError as error:
        raise _refused(file, shown, f"cannot be read ({error.strerror or error})") from error
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _refused(file, shown, _reason(content, error)) from error
    if not isinstance(value, dict):
        raise _refused(
            file, shown, f"holds {_kind(value)} where an object {{…}} must be: download it again"
        )
    return value


def read_config(folder: Path, shown: str) -> Fields:
    """The config.json of a checkpoint as it is in the file, known to name no absurd sizes.

    Raises:
        ModelError: As `read_json`; or a count of layers or experts that no model has, which a
            config class would make lists of.
    """
    fields = read_json(folder / "config.json", shown)
    _check_counts(fields, shown, 0)
    return fields


def _check_counts(fields: Fields, shown: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise ModelError(f"config.json of {shown!r} is nested too deep: download it again")
    for name, value in fields.items():
        if isinstance(value, dict):
            _check_counts(value, shown, depth + 1)
        elif isinstance(value, int):
            limit = next((most for names, most in _LIMITS.items() if names.search(name)), value)
            if value > limit:
                raise ModelError(
                    f"config.json of {shown!r} says {name} = {value}, more than any model has (at"
                    f" most {limit}): correct the number"
                )


def _reason(content: bytes, error: Exception) -> str:
    if content.startswith(b"\xef\xbb\xbf"):
        return "begins with a byte-order mark, which transformers refuses: save it without one"
    if not content.strip():
        return "is empty: download it again"
    if content.startswith(LFS_POINTER):
        return "is a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
    if re.search(rb"^(<{7}|>{7}) ", content, re.MULTILINE):
        return "holds the marks of an unfinished merge (<<<<<<<): settle it, or download it again"
    if isinstance(error, json.JSONDecodeError):
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        return f"is not valid JSON ({where}): correct it, or download it again"
    why = "it is nested too deep" if isinstance(error, RecursionError) else "it is not UTF-8 text"
    return f"is not valid JSON ({why}): download it again"


def _kind(value: object) -> str:
    words = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")


def _refused(file: Path, shown: str, what: str) -> ModelError:
    return ModelError(f"{file.name} of {shown!r} {what}")
