"""Plain data, as JSON can hold it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""What JSON can hold."""


def parsed(text: str) -> Any:
    """What a text of JSON holds, whoever wrote it; readers that tell the place have their own.

    >>> parsed('{"kept": [0, 1]}')
    {'kept': [0, 1]}

    Raises:
        ValueError: it is none, holds a number of more digits than Python converts, or is nested
            too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep to be read") from error


def finite(number: float) -> float | None:
    """The number as JSON can hold it: null where it is infinite, or none at all.

    >>> finite(0.25), finite(math.inf)
    (0.25, None)
    """
    return float(number) if math.isfinite(number) else None
