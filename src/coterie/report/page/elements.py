"""HTML from pieces that escape what they are given: no text of a user is ever markup."""

import html
import math
from collections.abc import Iterable, Sequence

_VOID = frozenset({"meta", "link", "br"})


class Markup(str):
    """Finished markup; any other text is escaped where it is put in."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]
"""What an element may hold: markup, text, numbers, nothing, or several of these."""

Attribute = str | int | float | bool | None


def siblings(*children: Child) -> Markup:
    """Children one after the other, escaped unless they are markup.

    >>> siblings("a < b", Markup("<br>"))
    'a &lt; b<br>'
    """
    return Markup("".join(map(_escaped, children)))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element; ``class_`` and ``data_x`` are read as ``class`` and ``data-x``.

    >>> tag("a", "1 < 2", href="#x", hidden=True, title=None)
    '<a href="#x" hidden>1 &lt; 2</a>'

    Args:
        name: Of the element.
        children: What it holds.
        attributes: True stands for the bare name; None and False for none.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{html.escape(str(value))}"')
    opened = f"<{' '.join(words)}>"
    return Markup(opened if name in _VOID else f"{opened}{siblings(*children)}</{name}>")


def section(title: str, *children: Child, note: str | None = None) -> Markup:
    """A part of the page under a heading; nothing where it has no children.

    Args:
        title: The heading.
        children: What stands in it.
        note: A sentence below the heading.
    """
    body = siblings(*children)
    if not body:
        return Markup()
    told = tag("p", note, class_="note") if note else None
    return tag("section", tag("h3", title), told, body)


def details(summary: str, *children: Child) -> Markup:
    """A part that is folded until it is asked for."""
    return tag("details", tag("summary", summary), *children)


def facts(rows: Iterable[tuple[str, Child]], caption: str) -> Markup:
    """Names and values as a table of two columns.

    Args:
        rows: Name and value.
        caption: What the table is, for those who do not see it.
    """
    body = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows]
    hidden = tag("caption", caption, class_="unseen")
    return _scrolled(tag("table", hidden, tag("tbody", body), class_="facts"), caption)


def table(
    head: Sequence[str], rows: Iterable[Sequence[Child]], caption: str, *, sortable: bool = False
) -> Markup:
    """A table whose first column names the rows.

    Args:
        head: Names of the columns.
        rows: A cell for each of them.
        caption: What the table is.
        sortable: Its columns have buttons that sort by them.
    """
    names = [tag("th", name, scope="col") for name in head]
    if sortable:
        names = [
            tag("th", tag("button", name, type="button", class_="sort"), scope="col")
            for name in head
        ]
    body = [
        tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]])
        for row in rows
    ]
    return _scrolled(
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", names)),
            tag("tbody", body),
            class_="sortable" if sortable else None,
        ),
        caption,
    )


def views(shown: Sequence[tuple[str, Markup]]) -> Markup:
    """One picture of several, chosen by buttons that the page's script adds; on paper, all.

    Args:
        shown: What each is called, and the picture.
    """
    drawn = [(name, one) for name, one in shown if one]
    if len(drawn) < 2:
        return siblings(*(one for _, one in drawn))
    return tag(
        "div",
        [tag("div", one, class_="view", data_name=name) for name, one in drawn],
        class_="views",
    )


def bar(share: float) -> Markup:
    """A bar of this share of its frame, for those who see it; the number stands beside it."""
    width = f"width:{100 * min(max(share, 0.0), 1.0):.1f}%"
    return tag("span", tag("span", class_="fill", style=width), class_="track", aria_hidden="true")


def command_box(text: str) -> Markup:
    """A command line with a button that copies it."""
    button = tag("button", "Copy", type="button", class_="copy")
    return tag("div", tag("pre", tag("code", text), tabindex="0"), button, class_="command")


def number(value: float | None, pattern: str = "{:.4f}") -> str:
    """A number in this pattern; words where it is none.

    >>> number(0.25, "{:+.2f}"), number(None), number(math.inf)
    ('+0.25', '–', 'not finite')
    """
    if value is None:
        return "–"
    return pattern.format(value) if math.isfinite(value) else "not finite"


def with_error(value: float | None, error: float | None, pattern: str = "{:.4f}") -> str:
    """A number with its standard error.

    Args:
        value: The number.
        error: Its standard error; None where it has none.
        pattern: Of the number; the error is written without its sign.
    """
    told = number(value, pattern)
    return told if error is None else f"{told} ± {number(error, pattern.replace('+', ''))}"


def _scrolled(markup: Markup, what: str) -> Markup:
    # Wide tables scroll by themselves, by keyboard too, and the page never does.
    return tag("div", markup, class_="wide", tabindex="0", role="region", aria_label=what)


def _escaped(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return html.escape(str(child))
    return siblings(*child)
