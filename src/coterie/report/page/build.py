"""Records as one HTML file: styles and script inside, no request to anywhere."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from coterie.report import words as w
from coterie.report.page.after import after
from coterie.report.page.comparison import compared, judged, timed
from coterie.report.page.elements import Markup, number, table, tag, together, with_error
from coterie.report.page.opening import how_sure, opening, run_name, size_of, what_was_done
from coterie.report.page.search import front, pairs, repeated
from coterie.report.page.sparse import sparse
from coterie.report.page.stack import stack
from coterie.report.page.standing import standing
from coterie.report.schema.bench import SpeedReport
from coterie.report.schema.compare import Comparison
from coterie.report.schema.evaluate import Judgement
from coterie.report.schema.record import CheckpointRecord, Record
from coterie.report.schema.sparsify import SparsityRecord

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


def page(entries: Sequence[PageEntry]) -> str:
    """The whole file.

    Args:
        entries: In the order they are shown.
    """
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
            _overview(entries) if several else None,
            [_entry(one, several) for one in entries],
        ),
        tag("p", class_="unseen", role="status", id="said"),
        tag("script", Markup(script)),
    ]
    whole = tag("html", tag("head", head), tag("body", body), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _title(entries: Sequence[PageEntry]) -> str:
    names = list(dict.fromkeys(_model(one.record) for one in entries))
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _model(record: Shown) -> str:
    if isinstance(record, CheckpointRecord):
        return run_name(record)
    if isinstance(record, Comparison):
        return f"Comparison on {record.model}"
    return "Speed" if isinstance(record, SpeedReport) else "Evaluation"


def _entry(entry: PageEntry, several: bool) -> Markup:
    record = entry.record
    told = f"{entry.name}: {_model(record)}" if several else "The run"
    # Alone it needs no title that is seen; whoever listens to the page goes by headings.
    heading = tag("h2", told, class_=None if several else "unseen")
    return tag("article", heading, _content(record))


def _content(record: Shown) -> Markup:
    if isinstance(record, Comparison):
        return compared(record)
    if isinstance(record, SpeedReport):
        return timed(record)
    if isinstance(record, Judgement):
        return judged(record)
    shown = [
        opening(record),
        stack(record),
        sparse(record) if isinstance(record, SparsityRecord) else None,
        [front(record), pairs(record)] if isinstance(record, Record) else None,
        after(record.after or []),
        repeated(record) if isinstance(record, Record) else None,
        how_sure(record),
    ]
    return together(*shown)


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
                "–" if size is None else _sized(size.bytes_after, w.size),
            )
        )
    if not rows:
        return None
    head = ["run", "model", "what was done", "perplexity before", "after"]
    head += ["loss, nats per token", "parameters", "on disk"]
    return tag("section", table(head, rows, "The runs side by side", sortable=True))


def _sized(value: int, told: Callable[[float], str]) -> Markup:
    return tag("data", told(value), value=value)


def _asset(name: str) -> str:
    return (files("coterie.report.page") / "assets" / name).read_text(encoding="utf-8")
