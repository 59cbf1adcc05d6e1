"""Plain data, as JSON can hold it."""

import math
from collections.abc import Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""What JSON can hold."""


def finite(number: float) -> float | None:
    """The number as JSON can hold it: null where it is infinite, or none at all.

    >>> finite(0.25), finite(math.inf)
    (0.25, None)
    """
    return float(number) if math.isfinite(number) else None
