"""The stack of layers: each a button with its contribution, to cut and restore on screen."""

import json
import math
import shlex
from collections.abc import Sequence

from coterie import players as p
from coterie.plain import Json
from coterie.report.page.costs import Measure, costs_of
from coterie.report.page.elements import (
    Child,
    Markup,
    details,
    facts,
    number,
    section,
    table,
    tag,
    with_error,
)
from coterie.report.schema.basics import ModelPart
from coterie.report.schema.contributions import LayerPart
from coterie.report.schema.record import CheckpointRecord, Record

OUTLIER = 2.5
"""How many times the next longest a bar is that is not drawn to its end."""


def stack(record: CheckpointRecord) -> Markup:
    """Every player as a bar, what the cut on screen is predicted to cost, and its command."""
    model = record.model
    if model is None or not (record.cut is not None or _known(record)):
        return Markup()
    unit = p.unit(model.player_kind)
    layers = _layers(record)
    bars = _bars(record, model, layers)
    buttons = [
        tag("button", told, type="button", class_="set", data_to=to)
        for told, to in (("As in this run", "chosen"), (f"Restore every {unit}", "none"))
    ]
    told = f"{unit}s, first to last"
    panel = [_screen(costs_of(record)), tag("div", buttons, class_="buttons")]
    shown = [
        # Beside each other where there is room; above each other on a phone.
        tag(
            "div",
            tag("div", panel, class_="panel"),
            tag("div", bars, class_="bars", role="group", aria_label=told),
            class_="stack",
        ),
        _numbers(record, model, layers),
        tag("script", _json(_data(record, model)), type="application/json"),
    ]
    return section("The stack", *shown, note=_note(record, unit))


def _note(record: CheckpointRecord, unit: str) -> str:
    told = f"Press a {unit} to cut or restore it; a red one is cut."
    if isinstance(record, Record) and (found := record.contributions) is not None:
        told += f" Bars: {found.semivalue}, in {found.unit}"
        told += f"; lines are {found.confidence:.0%} intervals."
    elif isinstance(record, Record) and record.predictor is not None:
        told += " Bars: what cutting it alone is predicted to cost, in nats per token."
    told += " A bar with an open end is longer than the frame."
    if isinstance(record, Record) and record.predictor is None:
        told += " This record holds no predictor, so other cuts show their size alone."
    if isinstance(record, Record) and "searched" in (record.identity or {}):
        told += " Losses here are those before repair; the search compared repaired coalitions."
    return told


def _layers(record: CheckpointRecord) -> list[LayerPart] | None:
    found = record.contributions if isinstance(record, Record) else None
    return None if found is None else found.layers


def _heights(
    record: CheckpointRecord, layers: list[LayerPart] | None, n: int
) -> list[float | None]:
    """What the bars show: contributions, else what cutting a player alone is predicted to cost."""
    if layers is not None:
        return [_real(one.value) for one in layers]
    if isinstance(record, Record) and record.predictor is not None:
        return [_real(one) for one in record.predictor.single]
    return [None] * n


def _bars(
    record: CheckpointRecord, model: ModelPart, layers: list[LayerPart] | None
) -> list[Markup]:
    heights = _heights(record, layers, model.players)
    low, high = _frame([one for one in heights if one is not None])
    span = (high - low) or 1.0
    labels, gone = _labels(model), _removed(record)
    bars = []
    for player, label in enumerate(labels):
        value = heights[player] if player < len(heights) else None
        drawn: list[Markup] = []
        told = "stays" if label in model.locked else number(value)
        if value is not None:
            kind = "fill over" if value > high else "fill"
            drawn.append(_span(kind, min(value, 0.0), max(value, 0.0), low, span))
        if layers is not None and (own := layers[player]).low is not None and own.high is not None:
            drawn.append(_span("whisker", max(own.low, low), min(own.high, high), low, span))
        bars.append(
            tag(
                "button",
                tag("span", label, class_="name"),
                tag("span", drawn, class_="track", aria_hidden="true"),
                tag("span", told, class_="value"),
                type="button",
                class_="player",
                aria_pressed="true" if player in gone else "false",
                disabled=label in model.locked,
                data_player=player,
            )
        )
    return bars


def _frame(values: list[float]) -> tuple[float, float]:
    """The least and the greatest value that the bars have room for."""
    low, *_, second, first = sorted([0.0, 0.0, 0.0, *values])
    # One layer, mostly the first, may dwarf all others: its bar then leaves the frame. Intervals
    # far wider than the bars are clipped too; the table has them.
    return 1.25 * low, 1.25 * (second if first > OUTLIER * second > 0 else first)


def _span(kind: str, start: float, end: float, low: float, span: float) -> Markup:
    left, width = 100 * (start - low) / span, max(0.0, 100 * (end - start) / span)
    return tag("span", class_=kind, style=f"left:{left:.2f}%;width:{width:.2f}%")


def _screen(costs: Sequence[Measure]) -> Markup:
    """Where the page's script says what the cut on screen costs."""
    rows = [
        (name, tag("output", "–", class_=kind))
        for name, kind in (
            ("cut", "cut"),
            ("loss above the full model", "loss"),
            ("how that is known", "how"),
            ("perplexity", "ratio"),
            *((one.name, one.kind) for one in costs),
        )
    ]
    line = tag("pre", tag("code", class_="line"), tabindex="0")
    button = tag("button", "Copy command", type="button", class_="copy")
    shown = [facts(rows, "The cut on screen"), tag("div", line, button, class_="command")]
    return tag("div", shown, class_="screen", aria_live="polite")


def _numbers(
    record: CheckpointRecord, model: ModelPart, layers: list[LayerPart] | None
) -> Markup | None:
    """Contributions and costs of every player, as far as they are known of each."""
    columns: list[tuple[str, list[Child]]] = []
    if layers is not None:
        columns += [
            ("contribution", [number(one.value) for one in layers]),
            ("± by coalitions", [number(one.error_sampling, "{:.2g}") for one in layers]),
            ("± by texts", [number(one.error_texts, "{:.2g}") for one in layers]),
            ("interval", [f"{number(one.low)} to {number(one.high)}" for one in layers]),
        ]
    columns += [
        (cost.name, [tag("data", cost.told(one), value=one) for one in cost.players])
        for cost in costs_of(record)
        if cost.exact
    ]
    if not columns:
        return None
    labels, gone = _labels(model), _removed(record)
    now = ["cut" if player in gone else "kept" for player in range(len(labels))]
    whys = [model.locked.get(one, is_) for one, is_ in zip(labels, now, strict=True)]
    columns.append(("in this run", [*whys]))
    unit = p.unit(model.player_kind)
    rows = zip(labels, *(cells for _, cells in columns), strict=True)
    head = (unit, *(name for name, _ in columns))
    told = f"What each {unit} contributes and costs"
    return details("The same as a table", table(head, rows, told, sortable=True))


def _labels(model: ModelPart) -> list[str]:
    return p.labels(model.player_kind, model.players)


def _removed(record: CheckpointRecord) -> list[int]:
    return [] if record.cut is None else record.cut.removed


def _known(record: CheckpointRecord) -> bool:
    """Whether something is told of players where none was cut."""
    found = (record.contributions, record.predictor) if isinstance(record, Record) else ()
    return any(one is not None for one in found)


def _data(record: CheckpointRecord, model: ModelPart) -> dict[str, Json]:
    """What the script needs: plain numbers, and the words of the command line."""
    predictor = record.predictor if isinstance(record, Record) else None
    words = ["coterie", "cut", model.hub_id or model.name]
    tail = ["--output", "small"]
    if model.hub_id and (record.request or {}).get("revision"):
        tail = ["--revision", str(record.request["revision"]), *tail] if record.request else tail
    held_out = None
    if record.verdict is not None:  # of the cut itself, before anything was done to it
        change = record.verdict.difference
        held_out = f"{with_error(change.nll, change.error, '{:+.4f}')} on held-out text"
    # Blocks of layers are cut by `coterie prune` alone.
    whole = model.player_kind == "layer"
    return {
        "labels": [*_labels(model)],
        "removed": [*_removed(record)],
        "before": shlex.join(words) + " --layers " if whole else None,
        "after": " " + shlex.join(tail),
        "heldOut": held_out,
        "costs": [_cost(one) for one in costs_of(record)],
        "predictor": None if predictor is None else predictor.as_json(),
    }


def _cost(one: Measure) -> Json:
    return {
        "kind": one.kind,
        "players": [*one.players],
        "before": one.before,
        "exact": one.exact,
    }


def _json(content: Json) -> Markup:
    """Data inside a script element: nothing in it can end that element."""
    text = json.dumps(_finite(content), separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _finite(content: Json) -> Json:
    """The same with null for every number that JSON cannot hold."""
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, dict):
        return {key: _finite(one) for key, one in content.items()}
    return [_finite(one) for one in content] if isinstance(content, list | tuple) else content


def _real(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
