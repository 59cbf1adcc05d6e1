"""Values of options as Python gives them: numpy numbers and paths are taken, others refused."""

from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike, fspath
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

from coterie.errors import UserError

_CALLED: dict[object, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}


def carried(name: str, value: object, kind: object, *, path: bool = False) -> object:
    """A value as the plain type that its option declares.

    >>> carried("--model", Path("small"), str, path=True), carried("--remove", True, int | None)
    Traceback (most recent call last):
    coterie.errors.UserError: --remove True is of type bool, and must be a whole number or None

    Args:
        name: Of the option, for the message.
        value: What was given.
        kind: The declared type: a plain one, a tuple of one, or any of several.
        path: A text that may be a path: path objects are taken for it.

    Raises:
        UserError: it is of a type that cannot be taken for the declared one.
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for one in kinds:
        done, plain = _as(name, value, one, path)
        if done:
            return plain
    wanted = " or ".join(_called(one) for one in kinds)
    shown = str(value) if len(str(value)) < 60 else f"{str(value)[:50]}…"
    raise UserError(f"{name} {shown} is of type {type(value).__name__}, and must be {wanted}")


def _as(name: str, value: object, kind: object, path: bool) -> tuple[bool, object]:
    """Whether a value can be taken for a type, and what it then is."""
    if kind is NoneType:
        return value is None, None
    if get_origin(kind) is tuple:
        return _as_tuple(name, value, get_args(kind)[0], path)
    if get_origin(kind) is Literal:
        return isinstance(value, str), value
    if kind is bool:
        # numpy's own truth value is no bool, and no number either.
        is_truth = isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
        return is_truth, bool(value) if is_truth else value
    if kind is int or kind is float:
        return _as_number(value, kind)
    if kind is str:
        if path and isinstance(value, PathLike):
            return True, fspath(value)
        return isinstance(value, str), str(value)
    if kind is Path:
        is_path = isinstance(value, str | PathLike)
        return is_path, Path(value) if isinstance(value, str | PathLike) else value
    return True, value  # a type of our own, which its owner checks


def _as_number(value: object, kind: object) -> tuple[bool, object]:
    if isinstance(value, bool):
        return False, value
    # A whole number stays one where any is taken: records write it as it was given.
    if isinstance(value, Integral):
        return True, int(value)
    return kind is float and isinstance(value, Real), _float(value)


def _float(value: object) -> object:
    return float(value) if isinstance(value, Real) else value


def _as_tuple(name: str, value: object, kind: object, path: bool) -> tuple[bool, object]:
    # A text is a sequence of letters, which nobody means.
    if isinstance(value, str | bytes):
        return False, value
    whole = isinstance(value, Sequence) or hasattr(value, "tolist")
    if not whole or not hasattr(value, "__iter__"):
        return False, value
    return True, tuple(carried(name, part, kind, path=path) for part in value)


def _called(kind: object) -> str:
    if kind is NoneType:
        return "None"
    if get_origin(kind) is tuple:
        one = _CALLED.get(get_args(kind)[0], "a value").removeprefix("a ")
        return f"a tuple, each {one}"
    return _CALLED.get(kind, "one of its words")
