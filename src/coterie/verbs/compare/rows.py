"""From cells to rows: means over seeds, paired differences, who is best."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from coterie import players as p
from coterie.game.coalitions import Vector, from_text
from coterie.game.utilities import clustered_mean
from coterie.report.schema.compare import (
    JudgedPart,
    MeanPart,
    RowCostPart,
    RowPart,
    RowSizePart,
)
from coterie.verbs.compare.cells import CALIBRATION, Cell, Frame, Where
from coterie.verbs.compare.methods import REPAIRED, methods, searches, title_of
from coterie.verbs.compare.tasks import accuracies


def rows_of(frame: Frame, groups: Sequence[Sequence[Cell]]) -> list[RowPart]:
    """The rows of one number removed, compared with each other."""
    lengths = [name for name in frame.texts if name != CALIBRATION]
    # Best among those that answered: a method without an answer competes with nobody.
    there = [group for group in groups if group[0].gap is None]
    best = {}
    for name in lengths if there else ():
        means = [frame.mean(group, name)[0] for group in there]
        best[name] = means[int(np.argmin([mean.mean() for mean in means]))]
    rows: list[RowPart] = []
    for group in groups:
        row = _bare_row(frame, group)
        if row.gap is None:
            tasks, accuracy, against_full = accuracies(
                [one for cell in group for one in cell.judged], frame.full.judged[0]
            )
            row = replace(
                row,
                held_out=[_judged(frame, group, name, best[name]) for name in lengths],
                calibration=float(frame.mean(group, CALIBRATION)[0].mean()),
                cost=_cost(group),
                size=_size(group),
                tasks=tasks,
                accuracy=accuracy,
                accuracy_against_full=against_full,
            )
        rows.append(row)
    return rows


def _bare_row(frame: Frame, group: Sequence[Cell]) -> RowPart:
    first = group[0]
    # The full model is no method; it has no paper, and its title is given here.
    name = first.where.method.removesuffix(REPAIRED)
    known = methods().get(name)
    sequences = first.played.get("sequences")
    ours = searches(name)
    answers = {(cell.where.method, *cell.coalitions()) for cell in group}
    return replace(
        empty_row(first.where),
        title="full model" if known is None else title_of(first.where.method),
        paper=None if known is None else known.paper,
        gap=first.gap,
        # A method with finalists has read the selection set too.
        sequences=(sequences if isinstance(sequences, int) else 0) + (frame.second if ours else 0),
        seeds=len(group),
        answers=len(answers),
        layers="" if first.gap is not None else _layers(first),
    )


def empty_row(where: Where, gap: str | None = None) -> RowPart:
    """The row of a method at one size, with nothing measured yet.

    Args:
        where: The method, and how many layers it removes.
        gap: Why there is nothing.
    """
    return RowPart(
        method=where.method,
        title=where.method,
        paper=None,
        removed=where.removed,
        gap=gap,
        sequences=0,
        seeds=0,
        answers=0,
        layers="",
        calibration=None,
        held_out=[],
        cost=None,
        size=None,
        accuracy=None,
        accuracy_against_full=None,
        tasks={},
    )


def _layers(cell: Cell) -> str:
    """The layers removed by the first draw, and what else was done."""
    assert cell.answer is not None
    if not cell.where.removed:
        return ""
    gone = np.flatnonzero(~from_text(cell.coalitions()[:1])[0]).tolist()
    kind = "layer" if cell.answer["players"] == "layer" else "sublayer"
    labels = [p.label(kind, player) for player in gone]  # type: ignore[arg-type]
    text = p.players(labels) if labels else ""
    if what := cell.answer.get("rewrite"):
        return f"{text}; {what}" if text else str(what)
    draws = len(cell.judged)
    return f"mean of {draws} draws" if draws > 1 else text


def _judged(frame: Frame, group: Sequence[Cell], name: str, best: Vector) -> JudgedPart:
    documents = frame.texts[name].documents
    losses, not_finite = frame.mean(group, name)
    whole, _ = frame.mean([frame.full], name)
    nll, error = clustered_mean(losses, documents)
    # Paired: differences sequence by sequence, so that what is hard for all cancels.
    behind, spread = clustered_mean(losses - best, documents)
    by_seed = [float(frame.mean([cell], name)[0].mean()) for cell in group]
    perplexity = float(np.exp(nll))
    is_best = bool((losses == best).all())
    return JudgedPart(
        length=frame.texts[name].length,
        nll=MeanPart(mean=nll, error=error),
        # The delta method: d exp(x) = exp(x) dx.
        perplexity=MeanPart(mean=perplexity, error=None if error is None else perplexity * error),
        against_full=_mean(losses - whole, documents),
        against_best=MeanPart(mean=behind, error=spread),
        best=is_best,
        tied=not is_best and spread is not None and behind <= 2 * spread,
        seeds_low=min(by_seed),
        seeds_high=max(by_seed),
        not_finite=not_finite,
    )


def _mean(numbers: Vector, documents: np.ndarray) -> MeanPart:
    mean, error = clustered_mean(numbers, documents)
    return MeanPart(mean=mean, error=error)


def _cost(group: Sequence[Cell]) -> RowCostPart | None:
    noted = [cell.played["cost"] for cell in group]
    costs = [cost for cost in noted if isinstance(cost, dict)]
    # One seed without a cost: a mean over the others would not be the cost of the method.
    if len(costs) < len(noted):
        return None

    def mean(name: str) -> float:
        numbers = [cost[name] for cost in costs]
        return float(np.mean([n for n in numbers if isinstance(n, int | float)]))

    peaks = [cost["peak_bytes"] for cost in costs]
    return RowCostPart(
        layer_tokens_asked=mean("layer_tokens_asked"),
        layer_tokens_executed=mean("layer_tokens_executed"),
        head_tokens=mean("head_tokens"),
        backward_layer_tokens=mean("backward_layer_tokens"),
        seconds=mean("seconds"),
        peak_bytes=None if None in peaks else float(max(peaks)),  # type: ignore[type-var, arg-type]
    )


def _size(group: Sequence[Cell]) -> RowSizePart:
    judged = [one for cell in group for one in cell.judged]

    def mean(name: str) -> float | None:
        # Judgements of older runs have no error of a speed.
        numbers = [one.get(name) for one in judged]
        return None if None in numbers else float(np.mean(numbers))  # type: ignore[arg-type]

    return RowSizePart(
        parameters=mean("parameters") or 0.0,
        bytes=mean("bytes") or 0.0,
        tokens_per_second=mean("tokens_per_second"),
        speedup=mean("speedup"),
        speedup_error=mean("speedup_error"),
    )
