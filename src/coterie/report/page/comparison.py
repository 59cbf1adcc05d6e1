"""Tables of several models or methods: `compare`, `bench`, `evaluate`."""

from coterie.report import words as w
from coterie.report.page.comparison_front import by_cost, by_what_is_left
from coterie.report.page.elements import (
    Child,
    Markup,
    command_box,
    number,
    section,
    siblings,
    table,
    tag,
    with_error,
)
from coterie.report.page.generation import generation
from coterie.report.page.with_repair import with_and_without_repair
from coterie.report.schema.bench import SpeedReport
from coterie.report.schema.compare import Comparison, MeanPart, RowPart
from coterie.report.schema.evaluate import EstimatePart, Judgement
from coterie.report.wording.compare import who_is_best
from coterie.report.wording.significance import HEAD, cells, notes


def comparison_section(found: Comparison) -> Markup:
    """Every method with its losses, cost and size: a table that sorts, and cost against loss."""
    return siblings(
        tag(
            "p",
            f"{found.model}, {found.architecture}, {found.layers} layers: methods under one"
            " evaluator, each at its stated cost.",
            class_="lead",
        ),
        [_answer(found), command_box(found.command)],
        section("Methods", _methods(found), note=_read(found)),
        with_and_without_repair(found),
        [
            section("Cost against loss", *by_cost(found)),
            section("What is left against loss", by_what_is_left(found)),
            section("Remarks", [tag("p", one) for one in found.remarks]),
        ],
    )


def _answer(found: Comparison) -> Markup | None:
    """Which method to use, in the words of the terminal."""
    told = [tag("li", one) for one in who_is_best(found)]
    if not told:
        return None
    asked = tag("p", tag("span", "Which method is best?"), class_="word")
    return tag("div", asked, tag("ul", told), class_="answer")


def timed(found: SpeedReport) -> Markup:
    """Every model under every load."""
    rows = [
        (
            row.name,
            row.batch,
            row.context,
            _value(row.prefill_tokens_per_second, "{:,.0f}"),
            _value(row.decode_tokens_per_second, "{:,.1f}"),
            _value(row.decode_speedup, "×{:.2f}"),
            tag("data", f"{1000 * row.next_token.median:.2f}", value=row.next_token.median),
            tag("data", w.size(row.weight_bytes), value=row.weight_bytes),
        )
        for row in found.rows
    ]
    head = ["model", "texts at once", "context", "prefill, tokens/s", "decoding, tokens/s"]
    head += ["speedup", "ms per token", "weights"]
    told = f"Speed on {found.device} in {found.dtype}, medians of {found.rounds} rounds"
    return siblings(
        command_box(found.command), section("Speed", table(head, rows, told, sortable=True))
    )


def judged(found: Judgement) -> Markup:
    """Every model's perplexities and task scores."""
    texts: list[tuple[Child, ...]] = [
        (
            model.name,
            row.text,
            row.length,
            _estimate(row.perplexity, "{:.3f}"),
            _estimate(row.difference, "{:+.4f}"),
        )
        for model in found.models
        for row in model.perplexity
    ]
    tasks: list[tuple[Child, ...]] = [
        (
            model.name,
            row.task,
            row.metric,
            _estimate(row.score, "{:.4f}"),
            _estimate(row.difference, "{:+.4f}"),
        )
        for model in found.models
        for row in model.tasks
    ]
    head = ("model", "text", "length", "perplexity", "loss against the first")
    of_tasks = ("model", "task", "metric", "score", "against the first")
    return siblings(
        command_box(found.command),
        section("Held-out text", table(head, texts, "Perplexity", sortable=True))
        if texts
        else None,
        section("Tasks", table(of_tasks, tasks, "Zero-shot tasks", sortable=True))
        if tasks
        else None,
        _beside(found),
    )


def _beside(found: Judgement) -> Markup:
    """Whether differences on tasks are more than chance, and what each model writes."""
    tested, first = found.significance, found.models[0].name
    paired = None
    if tested is not None:
        rows = table(HEAD, map(cells, tested.rows), "Models on the same items", sortable=True)
        paired = section("Paired, item by item", rows, note="; ".join(notes(tested)))
    near = [model.beside for model in found.models if model.beside is not None]
    return siblings(paired, [generation(one.generation, first) for one in near])


def _read(found: Comparison) -> str:
    texts = ", ".join(str(text.length) for text in found.held_out)
    return (
        "Loss is that above the full model on held-out text, in nats per token"
        f" (sequences of {texts} tokens); press a column's name to sort by it."
    )


def _methods(found: Comparison) -> Markup:
    lengths = [text.length for text in found.held_out]
    head = ["method", "cut", "layers"]
    for length in lengths:
        head += [f"loss, {length}", f"perplexity, {length}"]
    head += ["layer-tokens asked", "seconds", "parameters", "on disk", "speed"]
    if found.tasks:
        head += ["accuracy", *found.tasks]
    rows = [_method(found, row, len(head)) for row in [found.full, *found.rows]]
    return table(head, rows, "Methods", sortable=True)


def _method(found: Comparison, row: RowPart, n_columns: int) -> list[Child]:
    if row.gap is not None:
        return [row.title, row.removed, row.gap, *["–"] * (n_columns - 3)]
    cells: list[Child] = [row.title, row.removed, row.layers]
    parts = {part.length: part for part in row.held_out}
    for text in found.held_out:
        part = parts.get(text.length)
        if part is None:
            cells += ["–", "–"]
            continue
        mark = " best" if part.best else " tied" if part.tied else ""
        loss = with_error(part.against_full.mean, part.against_best.error, "{:+.4f}") + mark
        cells.append(tag("data", loss, value=part.against_full.mean))
        cells.append(_mean(part.perplexity, "{:.3f}"))
    cost, size = row.cost, row.size
    cells += (
        ["–", "–"]
        if cost is None
        else [
            tag("data", w.count(cost.layer_tokens_asked), value=cost.layer_tokens_asked),
            _value(cost.seconds, "{:.1f}"),
        ]
    )
    cells += (
        ["–", "–", "–"]
        if size is None
        else [
            tag("data", w.count(size.parameters), value=size.parameters),
            tag("data", w.size(size.bytes), value=size.bytes),
            _value(size.speedup, "×{:.2f}"),
        ]
    )
    if found.tasks:
        cells += [_mean(row.accuracy, "{:.4f}")]
        cells += [_mean(row.tasks.get(task), "{:.4f}") for task in found.tasks]
    return cells


def _mean(part: MeanPart | None, pattern: str) -> Child:
    return "–" if part is None else _cell(part.mean, part.error, pattern)


def _estimate(part: EstimatePart | None, pattern: str) -> Child:
    return "–" if part is None else _cell(part.mean, part.error, pattern)


def _cell(value: float | None, error: float | None, pattern: str) -> Child:
    return tag("data", with_error(value, error, pattern), value=value)


def _value(value: float | None, pattern: str) -> Child:
    return tag("data", number(value, pattern), value=value)
