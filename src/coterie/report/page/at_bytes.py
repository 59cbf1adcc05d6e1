"""Checkpoints at their bytes: a cut has to beat the full model in fewer bits of the same size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coterie.report import words as w
from coterie.report.figure.points import Axis, Point, Series
from coterie.report.page.costs import size_of
from coterie.report.page.elements import Markup, section, table, tag, with_error
from coterie.report.page.plot import scatter
from coterie.report.schema.after_cut import AfterPart
from coterie.report.schema.record import CheckpointRecord
from coterie.report.wording.after_cut import TITLES

NOTE = (
    "Held-out loss above the full model, by bytes on disk. Dashed lines lead through the full model"
    " in fewer bits: a cut above and to the right of one is worse and larger than that."
)


@dataclass(frozen=True)
class JudgedBytes:
    """A checkpoint that was judged.

    Attributes:
        name: What the page calls it.
        n_bytes: On disk.
        loss: Above the full model on held-out text, nats per token.
        error: Standard error of that, where both were judged in one go.
        fewer_bits: It is the full model, quantized and not cut.
    """

    name: str
    n_bytes: int
    loss: float
    error: float | None
    fewer_bits: bool = False

    @property
    def told(self) -> str:
        """Its loss with the error."""
        return with_error(self.loss, self.error, "{:+.4f}")


def at_bytes(entries: Iterable[tuple[str, CheckpointRecord]]) -> Markup:
    """All checkpoints of some runs, those of one held-out text in one picture.

    Args:
        entries: What each run is called, and its record.
    """
    texts: dict[str, list[JudgedBytes]] = {}
    for name, record in entries:
        for text, one in _checkpoints(name, record):
            found = texts.setdefault(text, [])
            # A run that goes on from another names the same checkpoint once more.
            if all((one.n_bytes, one.loss) != (other.n_bytes, other.loss) for other in found):
                found.append(one)
    shown = [_shown(found) for found in texts.values() if len(found) > 1]
    return section("At equal bytes", *shown, note=NOTE)


def _checkpoints(name: str, record: CheckpointRecord) -> Iterable[tuple[str, JudgedBytes]]:
    """Every checkpoint that a record has judged, with the text that judged it."""
    size, verdict, text = size_of(record), record.verdict, record.held_out
    full = None if verdict is None else verdict.before.nll
    if size is not None and verdict is not None and text is not None:
        change = verdict.difference
        yield (
            text.sha256,
            JudgedBytes(_named(name, "cut"), size.bytes_after, change.nll, change.error),
        )
    for part in record.after or []:
        same = text is not None and part.held_out.sha256 == text.sha256
        own = part.full.nll if part.full is not None else full if same else None
        bare = record.cut is None and part.what == "quantize" and part is (record.after or [])[0]
        if bare:
            # Nothing was cut: what it was made of is the full model itself.
            told = _named(name, str(part.settings.get("scheme", "fewer bits")))
            change = part.difference
            kept = JudgedBytes(told, part.bytes_after, change.nll, change.error, fewer_bits=True)
            yield part.held_out.sha256, kept
        elif own is not None:
            told = _named(name, _what(part))
            yield (
                part.held_out.sha256,
                JudgedBytes(told, part.bytes_after, part.after.nll - own, None),
            )


def _what(part: AfterPart) -> str:
    done = TITLES.get(part.what, part.what).lower()
    return f"{done}, {part.settings['scheme']}" if part.settings.get("scheme") else done


def _named(run: str, what: str) -> str:
    return f"{run}: {what}" if run else what


def _shown(found: Sequence[JudgedBytes]) -> list[Markup]:
    def points(fewer_bits: bool) -> list[Point]:
        return [
            Point(
                one.n_bytes,
                one.loss,
                f"{one.name}: {one.told} at {w.size(one.n_bytes)}",
                one.error,
                one.name,
            )
            for one in found
            if one.fewer_bits == fewer_bits
        ]

    picture = scatter(
        [
            Series("the full model in fewer bits", "guide", points(fewer_bits=True)),
            Series("cut", "main", points(fewer_bits=False)),
        ],
        Axis("bytes on disk", unit="B"),
        Axis("loss above the full model, nats per token"),
        "Held-out loss by bytes on disk; the table below has the numbers",
    )
    rows = [
        (
            one.name,
            tag("data", w.size(one.n_bytes), value=one.n_bytes),
            tag("data", one.told, value=one.loss),
        )
        for one in found
    ]
    head = ("checkpoint", "on disk", "loss above the full model, nats per token")
    return [picture, table(head, rows, "Checkpoints at their bytes", sortable=True)]
