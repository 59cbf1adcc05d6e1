"""Descriptions and numbers as the file of a store holds them."""

import hashlib
import json
import math
from collections.abc import Mapping

from coterie.game.coalitions import Observations
from coterie.plain import Json


def fingerprint(description: Mapping[str, Json]) -> str:
    """SHA-256 of a game's description in canonical JSON: the order of the names does not count.

    >>> fingerprint({"weights": "ab12", "dtype": "float32"})[:12]
    '45da016d1e0c'
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical(description).encode()).hexdigest()


def canonical(content: Json | Mapping[str, Json]) -> str:
    """The one way to write this as JSON."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def numbers_at(seen: Observations, i: int, j: int) -> tuple[float | None, ...]:
    """One observation as a row holds it.

    Args:
        seen: A table of observations.
        i: Row of the table.
        j: Column of the table.
    """
    # SQLite has infinities but no NaN: a NaN is written as NULL and read back as NaN.
    cell = (float(seen.nll[i, j]), float(seen.kl[i, j]), float(seen.top1[i, j]))
    return tuple(None if math.isnan(number) else number for number in cell)


def as_number(number: float | None) -> float:
    """A number of a row as it was observed."""
    return math.nan if number is None else number
