"""Numbers as people read them; shared by the printers."""

import math


def count(number: float) -> str:
    """A count in few characters: three significant digits above ten thousand.

    >>> count(1234), count(12_345), count(4_560_000)
    ('1,234', '12.3 k', '4.56 M')
    """
    if abs(number) < 10_000:
        return f"{number:,.0f}"
    # Past tera no prefix is added, only digits.
    power = min(4, int(math.log10(abs(number)) // 3))
    return f"{number / 1000**power:.3g} {' kMGT'[power]}"


def amount(number: float) -> str:
    """A count of parameters with one digit behind the point.

    >>> amount(134_515_008), amount(1_240_000_000)
    ('134.5 M', '1.2 G')
    """
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.1f} {letter}"
    return f"{number:,.0f}"


def size(number_of_bytes: float) -> str:
    """Bytes in decimal units: 12.5 MB."""
    return f"{count(number_of_bytes)}B" if number_of_bytes >= 10_000 else f"{number_of_bytes:.0f} B"


def seconds(number: float) -> str:
    """A duration in few characters.

    >>> seconds(8.1), seconds(200), seconds(7500)
    ('8.1 s', '3 min 20 s', '2 h 5 min')
    """
    if number < 60:
        return f"{number:.1f} s"
    # Rounded before it is divided: "1 min 60 s" cannot come out.
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def or_dash(number: float | None, pattern: str = "{:.3f}") -> str:
    """The number in this pattern; a dash where there is none."""
    return "–" if number is None else pattern.format(number)


def short_hash(text: str) -> str:
    """The first twelve digits of a hash, after its name if it has one."""
    # `sha256:` and such stay, so that a reader knows what was shortened.
    name, colon, digits = text.rpartition(":")
    return f"{name}{colon}{digits[:12]}"
