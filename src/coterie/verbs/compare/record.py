"""From cells to rows: means over seeds, paired differences, who is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from coterie import players as p
from coterie.game.coalitions import Vector, from_text
from coterie.game.utilities import clustered_mean, floor_nll
from coterie.plain import Json
from coterie.report.schema.compare import (
    CellPart,
    Comparison,
    JudgedPart,
    MeanPart,
    RowCostPart,
    RowPart,
    RowSizePart,
)
from coterie.texts.sets import TextSet
from coterie.verbs.compare.judge import judged_losses
from coterie.verbs.compare.methods import methods, searches
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.compare.tasks import accuracies
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import Prepared, text_part
from coterie.verbs.shared.provenance import machine, versions
from coterie.verbs.shared.workspace import Workspace

CALIBRATION = "calibration"
"""The name of the calibration texts among those that judge."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One method at one size and seed: what it chose, how each draw of it was judged, its cost."""

    method: str
    removed: int
    seed: int
    gap: str | None
    told: Mapping[str, Json] | None
    judged: list[dict[str, Json]]
    played: Mapping[str, Json]

    def losses(self, text: str) -> Vector:
        """The mean over its draws of each sequence's loss, not yet read as finite."""
        return np.mean([judged_losses(one, text) for one in self.judged], axis=0)

    def coalitions(self) -> list[str]:
        """What is kept, a text a draw."""
        texts = [] if self.told is None else self.told["coalitions"]
        assert isinstance(texts, list)
        return [str(text) for text in texts]


@dataclass(frozen=True, eq=False)
class _Frame:
    """What every row is compared with."""

    texts: Mapping[str, TextSet]
    floor: float
    full: Cell
    second: int

    def mean(self, cells: Sequence[Cell], text: str) -> tuple[Vector, int]:
        """Losses ``(n_sequences,)`` averaged over cells, and how many were read as the floor."""
        raw = np.array([judged_losses(one, text) for cell in cells for one in cell.judged])
        bad = ~np.isfinite(raw)
        weights = np.array([1 / len(cell.judged) for cell in cells for _ in cell.judged])
        workspace = np.where(bad, self.floor, raw)
        return np.average(workspace, axis=0, weights=weights), int(bad.sum())


@dataclass(frozen=True, eq=False)
class Asked:
    """What is compared, and on what.

    Attributes:
        request: What was asked.
        prepared: The texts, before any method took fewer of them.
        texts: What judges, by name: the calibration texts and the held-out ones of each length.
        identity: What decides the answer.
    """

    request: CompareRequest
    prepared: Prepared
    texts: Mapping[str, TextSet]
    identity: Mapping[str, Json]


def assemble(asked: Asked, workspace: Workspace, full: Cell, cells: Sequence[Cell]) -> Comparison:
    """The whole report.

    Args:
        asked: What is compared, and on what.
        workspace: The model that was played with.
        full: How the model itself was judged.
        cells: How every method was, at every size and seed.
    """
    request, prepared, texts = asked.request, asked.prepared, asked.texts
    second = prepared.second
    n_second = 0 if second is None else second.n_sequences
    frame = _Frame(texts, floor_nll(workspace.calibration.engine.vocabulary), full, n_second)
    rows = []
    for removed in request.removals:
        groups = [
            [cell for cell in cells if (cell.method, cell.removed) == (name, removed)]
            for name in request.played
        ]
        rows += _rows(frame, [group for group in groups if group])
    held_out = [text for name, text in texts.items() if name != CALIBRATION]
    return Comparison(
        kind="compare",
        command=request.command(),
        identity=dict(asked.identity),
        model=workspace.prepared.source.name,
        fingerprint=workspace.prepared.source.fingerprint(),
        architecture=type(workspace.model).__name__,
        layers=workspace.stack.n_players,
        locked=list(workspace.locked),
        dtype=name_of(workspace.prepared.dtype),
        device=str(workspace.prepared.device),
        calibration=text_part(prepared.calibration),
        second=None if second is None else text_part(second),
        held_out=[text_part(text) for text in held_out],
        tasks=list(request.tasks),
        full=_rows(frame, [[full]])[0],
        rows=rows,
        cells=[_cell_part(frame, cell) for cell in cells if cell.gap is None],
        remarks=_remarks(cells),
        versions=versions(),
        machine=machine(torch.get_num_threads(), str(workspace.prepared.device)),
    )


def _rows(frame: _Frame, groups: Sequence[Sequence[Cell]]) -> list[RowPart]:
    """The rows of one number removed, compared with each other."""
    lengths = [name for name in frame.texts if name != CALIBRATION]
    there = [group for group in groups if group[0].gap is None]
    best = {}
    for name in lengths if there else ():
        means = [frame.mean(group, name)[0] for group in there]
        best[name] = means[int(np.argmin([mean.mean() for mean in means]))]
    rows = []
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


def _bare_row(frame: _Frame, group: Sequence[Cell]) -> RowPart:
    first = group[0]
    known = methods().get(first.method)
    sequences = first.played.get("sequences")
    ours = searches(first.method)
    answers = {(cell.method, *cell.coalitions()) for cell in group}
    return RowPart(
        method=first.method,
        title="full model" if known is None else known.title,
        paper=None if known is None else known.paper,
        removed=first.removed,
        gap=first.gap,
        sequences=(sequences if isinstance(sequences, int) else 0) + (frame.second if ours else 0),
        seeds=len(group),
        answers=len(answers),
        layers="" if first.gap is not None else _layers(first),
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
    assert cell.told is not None
    if not cell.removed:
        return ""
    gone = np.flatnonzero(~from_text(cell.coalitions()[:1])[0]).tolist()
    kind = "layer" if cell.told["players"] == "layer" else "sublayer"
    labels = [p.label(kind, player) for player in gone]  # type: ignore[arg-type]
    told = p.players(labels) if labels else ""
    if what := cell.told.get("rewrite"):
        return f"{told}; {what}" if told else str(what)
    draws = len(cell.judged)
    return f"mean of {draws} draws" if draws > 1 else told


def _judged(frame: _Frame, group: Sequence[Cell], name: str, best: Vector) -> JudgedPart:
    documents = frame.texts[name].documents
    losses, not_finite = frame.mean(group, name)
    whole, _ = frame.mean([frame.full], name)
    nll, error = clustered_mean(losses, documents)
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
    told = [cell.played["cost"] for cell in group]
    costs = [cost for cost in told if isinstance(cost, dict)]
    if len(costs) < len(told):
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
        numbers = [one[name] for one in judged]
        return None if None in numbers else float(np.mean(numbers))  # type: ignore[arg-type]

    return RowSizePart(
        parameters=mean("parameters") or 0.0,
        bytes=mean("bytes") or 0.0,
        tokens_per_second=mean("tokens_per_second"),
        speedup=mean("speedup"),
    )


def _cell_part(frame: _Frame, cell: Cell) -> CellPart:
    assert cell.told is not None
    lengths = [name for name in frame.texts if name != CALIBRATION]
    return CellPart(
        method=cell.method,
        removed=cell.removed,
        seed=cell.seed,
        kept=[np.flatnonzero(row).tolist() for row in from_text(cell.coalitions())],
        players=str(cell.told["players"]),
        held_out={name: float(frame.mean([cell], name)[0].mean()) for name in lengths},
    )


def _remarks(cells: Sequence[Cell]) -> list[str]:
    """What methods remarked, each once."""
    told = []
    for cell in cells:
        remarks = cell.played["remarks"]
        assert isinstance(remarks, list)
        title = methods()[cell.method].title
        told += [f"{title}: {remark}" for remark in remarks]
    return list(dict.fromkeys(told))
