"""What every part of a record can do: be written as plain JSON, and be read back from it."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Self, TypeVar, Union, get_args, get_origin, get_type_hints

from coterie.plain import Json

_Kind = TypeVar("_Kind")

_HELD: dict[object, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int, float),
    float: (int, float, type(None)),  # null is a number that is not finite
    list: (list,),
    dict: (Mapping,),
}
"""What JSON may hold where a field is of this type."""


class Part:
    """Base of the dataclasses that records are made of.

    A field with the default None is optional: where it is None, nothing is written.

    >>> from coterie.report.schema.basics import SizePart
    >>> part = SizePart(
    ...     parameters_before=8, parameters_after=6, bytes_before=16, bytes_after=12
    ... )
    >>> part.as_json()["bytes_after"]
    12
    >>> SizePart.from_json(part.as_json()) == part
    True
    """

    def as_json(self) -> dict[str, Json]:
        """The part as plain JSON, by the names of its fields."""
        assert is_dataclass(self)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        # Optional parts are absent, not null: a reader tells "not reached" from "no number".
        optional = {field.name for field in fields(self) if field.default is None}
        return {
            name: _plain(value)
            for name, value in values.items()
            if not (value is None and name in optional)
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Json]) -> Self:
        """The part that was written so; names that it has no field for are passed over.

        Raises:
            ValueError: a field is missing, or what stands there is not of its kind.
        """
        assert is_dataclass(cls)
        kinds = _kinds(cls)
        # Unknown names are passed over: a newer record stays readable.
        known = {field.name: field for field in fields(cls)}
        for name, field in known.items():
            if name not in content and field.default is MISSING:
                raise ValueError(f"a {cls.__name__} without its '{name}'")
        found: dict[str, object] = {}
        for name in (name for name in known if name in content):
            try:
                found[name] = _read(kinds[name], content[name])
            except ValueError as error:
                raise ValueError(f"{cls.__name__}.{name}: {error}") from error
        return cls(**found)


def known(part: _Kind | None) -> _Kind:
    """A part that only some records have, of a record that must have it.

    Raises:
        ValueError: it has none: the record is one of another command.
    """
    if part is None:
        raise ValueError("this record lacks a part that is asked for: another command made it")
    return part


@cache
# Type hints are evaluated once a class: records are read in loops.
def _kinds(cls: type[Part]) -> dict[str, object]:
    return get_type_hints(cls)


def _plain(value: object) -> Json:
    """A field's value as JSON has it."""
    # Most fields are plain already.
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Part):
        return value.as_json()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def _read(kind: object, value: Json) -> object:
    """What JSON holds, as a field of this type holds it; a whole number may be written as 1.0.

    Args:
        kind: A part, a list or dict of such, one of these or None, or anything plain.
        value: What stands in its place.

    Raises:
        ValueError: another kind of thing stands there.
    """
    if isinstance(kind, type) and issubclass(kind, Part):
        if not isinstance(value, Mapping):
            raise ValueError(f"a {kind.__name__} that is no object")
        return kind.from_json(value)
    inner = get_args(kind)
    # A part or None; a union of plain types is taken as it comes.
    if get_origin(kind) in (Union, UnionType):
        others = [one for one in inner if one is not type(None)]
        return value if value is None or len(others) > 1 else _read(others[0], value)
    origin = get_origin(kind) or kind
    held = _HELD.get(origin)
    # True and False are numbers to Python.
    fits = held is None or (isinstance(value, held) and isinstance(value, bool) <= (kind is bool))
    if not fits:
        raise ValueError(f"{value!s:.60} where a {getattr(origin, '__name__', origin)} must be")
    if inner and origin is list and isinstance(value, list):
        return [_read(inner[0], one) for one in value]
    if inner and origin is dict and isinstance(value, Mapping):
        return {key: _read(inner[1], one) for key, one in value.items()}
    return value
