"""What every player costs, by each measure that a record has."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from coterie.report import words as w
from coterie.report.schema.basics import SizePart
from coterie.report.schema.record import CheckpointRecord, Record
from coterie.report.schema.sparsify import SparsityRecord


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        kind: ``parameters``, ``bytes`` or ``milliseconds``.
        name: What the page calls it.
        players: Of each player.
        before: Of the full model.
        exact: Whether players are told apart; older records know what all that was cut came to.
    """

    kind: str
    name: str
    players: Sequence[float]
    before: float
    exact: bool = True

    def left(self, cut: Iterable[int]) -> float:
        """What is left of it without these players."""
        return self.before - sum(self.players[player] for player in cut)

    def told(self, value: float) -> str:
        """A value in words."""
        return _TOLD[self.kind](value)


_TOLD: dict[str, Callable[[float], str]] = {
    "parameters": w.count,
    "bytes": w.size,
    "milliseconds": lambda value: f"{three_digits(value)} ms",
}


def three_digits(value: float) -> str:
    """A number with three digits, or all that stand before its point.

    >>> three_digits(0.01234), three_digits(31.41), three_digits(1270.4)
    ('0.0123', '31.4', '1,270')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def size_of(record: CheckpointRecord) -> SizePart | None:
    """Weights before and after the cut, where the record tells."""
    return record.size if isinstance(record, Record | SparsityRecord) else None


def bytes_now(record: CheckpointRecord) -> int | None:
    """Bytes on disk of the checkpoint as it is now, after all that was done to it."""
    if record.after:
        return record.after[-1].bytes_after
    size = size_of(record)
    return None if size is None else size.bytes_after


def costs_of(record: CheckpointRecord) -> list[Measure]:
    """Parameters, bytes and measured milliseconds, as far as the record has them."""
    found = list[Measure]()
    size, cut = size_of(record), record.cut
    if size is not None and cut is not None:
        own = record.player_sizes if isinstance(record, Record) else None
        each = (None, None) if own is None else (own.parameters, own.bytes)
        whole = (size.parameters_before, size.bytes_before)
        after = (size.parameters_after, size.bytes_after)
        for place, (kind, name) in enumerate(_SIZES):
            players: Sequence[float] | None = each[place]
            if players is None:
                mean = (whole[place] - after[place]) // max(1, len(cut.removed))
                players = [mean] * (len(cut.removed) + len(cut.kept))
            found.append(Measure(kind, name, players, whole[place], exact=own is not None))
    times = record.player_times if isinstance(record, Record) else None
    if times is not None and all(map(math.isfinite, [*times.seconds, times.rest])):
        every = [1000 * one for one in times.seconds]
        name = f"milliseconds for {times.tokens:,} tokens"
        found.append(Measure("milliseconds", name, every, sum(every) + 1000 * times.rest))
    return found


_SIZES = (("parameters", "parameters"), ("bytes", "weights on disk"))
