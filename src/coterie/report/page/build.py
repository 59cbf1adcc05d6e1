"""Records as one HTML file: styles and script inside, no request to anywhere."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from importlib.resources import files

from coterie.errors import UserError
from coterie.report import words as w
from coterie.report.page.after import after
from coterie.report.page.at_bytes import at_bytes
from coterie.report.page.comparison import comparison_section, judged, timed
from coterie.report.page.costs import bytes_now, size_of
from coterie.report.page.elements import Markup, number, siblings, table, tag, with_error
from coterie.report.page.front import front
from coterie.report.page.generation import generation
from coterie.report.page.how_sure import how_sure
from coterie.report.page.opening import opening, run_name, what_was_done
from coterie.report.page.search import pairs, repeated
from coterie.report.page.sparse import sparse
from coterie.report.page.stack import stack
from coterie.report.schema.bench import SpeedReport
from coterie.report.schema.compare import Comparison
from coterie.report.schema.evaluate import Judgement
from coterie.report.schema.record import CheckpointRecord, Record
from coterie.report.schema.sparsify import SparsityRecord
from coterie.report.wording.standing import standing

Shown = CheckpointRecord | Comparison | SpeedReport | Judgement
"""What a page can be made of."""


@dataclass(frozen=True)
class PageEntry:
    """A record, and what the page calls it.

    Attributes:
        name: Of its folder.
        record: What a run left there.
    """

    name: str
    record: Shown


MOST = 2_000_000
"""Bytes that a page stays below, so that a phone opens it and a mail carries it."""


class PageTooLarge(UserError):
    """More runs were named than one page has room for."""


class Detail(Enum):
    """How much of every run is shown; less where all of it would not fit."""

    WHOLE = None
    SHORT = "maps of pairs, and what was measured one by one"
    BARE = "stacks, fronts and pairs"


def page(entries: Sequence[PageEntry]) -> str:
    """The whole file, below `MOST` bytes: what has no room is left out, and the page says so.

    Args:
        entries: In the order they are shown.

    Raises:
        PageTooLarge: not even the barest page of so many runs has room.
    """
    for detail in Detail:
        text = _page(entries, detail)
        if len(text.encode()) < MOST:
            return text
    raise PageTooLarge(
        f"{len(entries)} runs do not fit on one page of {MOST / 1e6:.0f} MB: name fewer of them"
    )


def _page(entries: Sequence[PageEntry], detail: Detail) -> str:
    style, script = _asset("page.css"), _asset("page.js")
    title = _title(entries)
    # The browser is told to ask for nothing, and to run no script but ours.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
        f" script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    )
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Markup(style)),
    ]
    several = len(entries) > 1
    body = [
        tag("header", tag("p", "Coterie", class_="brand"), tag("h1", title)),
        tag(
            "main",
            _left_out(detail),
            _overview(entries) if several else None,
            [_entry(one, several, detail) for one in entries],
        ),
        tag("p", class_="unseen", role="status", id="said"),
        tag("script", Markup(script)),
    ]
    whole = tag("html", tag("head", head), tag("body", body), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _left_out(detail: Detail) -> Markup | None:
    if detail is Detail.WHOLE:
        return None
    told = f"To stay below {MOST / 1e6:.0f} MB this page leaves out {detail.value}; the page of"
    return tag("p", f"{told} each run alone has them (report.html).", class_="note")


def _title(entries: Sequence[PageEntry]) -> str:
    names = list(dict.fromkeys(_model(one.record) for one in entries))
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _model(record: Shown) -> str:
    if isinstance(record, CheckpointRecord):
        return run_name(record)
    if isinstance(record, Comparison):
        return f"Comparison on {record.model}"
    return "Speed" if isinstance(record, SpeedReport) else "Evaluation"


def _entry(entry: PageEntry, several: bool, detail: Detail) -> Markup:
    record = entry.record
    told = f"{entry.name}: {_model(record)}" if several else "The run"
    # Alone it needs no title that is seen; whoever listens to the page goes by headings.
    heading = tag("h2", told, class_=None if several else "unseen")
    return tag("article", heading, _content(record, detail))


def _content(record: Shown, detail: Detail) -> Markup:
    if isinstance(record, Comparison):
        return comparison_section(record)
    if isinstance(record, SpeedReport):
        return timed(record)
    if isinstance(record, Judgement):
        return judged(record)
    shown = [
        opening(record),
        generation(None if record.verdict is None else record.verdict.generation),
        None if detail is Detail.BARE else _explored(record, detail is Detail.WHOLE),
        sparse(record) if isinstance(record, SparsityRecord) else None,
        after(record.after or []),
        at_bytes([("", record)]),
        repeated(record) if isinstance(record, Record) else None,
        how_sure(record),
    ]
    return siblings(*shown)


def _explored(record: CheckpointRecord, whole: bool) -> Markup:
    """What a reader tries other cuts with, and sees what was found beside this one."""
    if not isinstance(record, Record):
        return stack(record)
    return siblings(stack(record), front(record, whole), pairs(record, whole))


def _overview(entries: Sequence[PageEntry]) -> Markup | None:
    """The runs of checkpoints side by side."""
    rows = []
    for entry in entries:
        if not isinstance(record := entry.record, CheckpointRecord):
            continue
        found, size = standing(record), size_of(record)
        rows.append(
            (
                entry.name,
                run_name(record),
                what_was_done(record),
                "–" if found is None else number(found.before.perplexity, "{:.3f}"),
                "–" if found is None else number(found.after.perplexity, "{:.3f}"),
                "–" if found is None else with_error(found.change, found.error, "{:+.4f}"),
                "–" if size is None else _sized(size.parameters_after, w.count),
                "–" if (n_bytes := bytes_now(record)) is None else _sized(n_bytes, w.size),
            )
        )
    if not rows:
        return None
    head = ["run", "model", "what was done", "perplexity before", "after"]
    head += ["loss, nats per token", "parameters", "on disk"]
    named = [(one.name, one.record) for one in entries if isinstance(one.record, CheckpointRecord)]
    whole = table(head, rows, "The runs side by side", sortable=True)
    return siblings(tag("section", whole), at_bytes(named))


def _sized(value: int, told: Callable[[float], str]) -> Markup:
    return tag("data", told(value), value=value)


def _asset(name: str) -> str:
    return (files("coterie.report.page") / "assets" / name).read_text(encoding="utf-8")
