"""How values are written on the command line that are neither a plain number nor a word."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coterie.errors import UserError


@dataclass(frozen=True)
class Form:
    """A way to write a value.

    Attributes:
        what: What a value of this form is called, as in "is no list of numbers".
        example: One, or a few, as they are typed.
        parse: The value of a text; raises ValueError where it cannot be read.
        write: The text of a value.
    """

    what: str
    example: str
    parse: Callable[[str], Any]
    write: Callable[[Any], str]

    def read(self, name: str, text: str) -> Any:
        """The value of a text.

        Args:
            name: Of the option, with its dashes.
            text: As it was typed.

        Raises:
            UserError: the text is not of this form.
        """
        try:
            return self.parse(text)
        # "inf" as a number of bytes raises OverflowError, not ValueError.
        except (ValueError, OverflowError):
            raise UserError(f"{name} {text} is no {self.what}: write {self.example}") from None


def parse_names(text: str) -> tuple[str, ...]:
    """Names from `a,b`; nothing from nothing."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_time(text: str) -> float:
    """Seconds from `90`, `90s`, `20m` or `2h`."""
    # No unit means seconds.
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    return float(text[:-1] if unit else text) * (unit or 1.0)


def parse_bytes(text: str) -> int:
    """Bytes from `500000000`, `500M` or `8G` (decimal)."""
    # Decimal, as disks and `--help` count, not powers of two.
    unit = {"K": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:].upper())
    return int(float(text[:-1] if unit else text) * (unit or 1))


def parse_fraction(text: str) -> float:
    """A fraction from `0.25` or `25%`."""
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def parse_quantity(text: str) -> float:
    """A number from `8e9`, `200M` or `8G` (decimal), or a fraction from `0.75` or `75%`.

    >>> parse_quantity("200M"), parse_quantity("75%"), parse_quantity("0.75")
    (200000000.0, 0.75, 0.75)
    """
    if text.endswith("%"):
        return parse_fraction(text)
    # B after the unit too: "200MB" is what people write.
    text = text[:-1] if text[-1:].upper() == "B" else text
    unit = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(text[-1:].upper())
    return float(text[:-1] if unit else text) * (unit or 1.0)


def parse_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers from `3,6,9`, ascending; a number that is written twice stays twice."""
    # Repeated numbers stay, for the caller to refuse by name.
    return tuple(sorted(int(part) for part in parse_names(text)))


def parse_distinct(text: str) -> tuple[int, ...]:
    """Whole numbers from `1,8`, each once, in the order they are written."""
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def parse_layers(text: str) -> tuple[int, ...]:
    """Layer numbers from `3,7-9` (0-based, both ends included), ascending.

    Raises:
        UserError: a part is not a number or a range upwards, or a layer is named twice.
    """
    layers: set[int] = set()
    # An empty text names no layer; "".split(",") would give one empty part.
    for part in text.split(",") if text else ():
        found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        # An empty range stands for both faults: not a number, and 9-7.
        named = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
        if not named:
            raise UserError(f"{part.strip()!r} in {text!r} is no layer: write 3,7-9 (0-based)")
        if repeated := layers.intersection(named):
            raise UserError(f"layer {min(repeated)} is named twice in {text!r}: name each once")
        layers.update(named)
    return tuple(sorted(layers))


def _joined(values: tuple[object, ...]) -> str:
    return ",".join(map(str, values))


# The forms in use; a new one is one line here.
NAMES = Form("list of names", "a,b", parse_names, _joined)
NUMBERS = Form("list of numbers", "3,6,9", parse_numbers, _joined)
# A record names no machine: whoever repeats a run has a cluster of their own.
CLUSTER = Form("cluster", "auto", str, lambda _: "auto")
DISTINCT = Form("list of numbers", "1,8", parse_distinct, _joined)
LAYERS = Form("list of layers", "3,7-9", parse_layers, _joined)
SECONDS = Form("time", "90s, 20m or 2h", parse_time, lambda value: f"{value:g}s")
FRACTION = Form("fraction", "0.25 or 25%", parse_fraction, str)
QUANTITY = Form("number", "0.75, 75%, 200M or 8e9", parse_quantity, str)
BYTES = Form("number of bytes", "500M or 8G", parse_bytes, str)
