"""The whole report of a comparison, from the cells that were judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from coterie.game.coalitions import from_text
from coterie.game.utilities import floor_nll
from coterie.plain import Json
from coterie.report.schema.compare import (
    CellPart,
    Comparison,
    RowPart,
)
from coterie.texts.sets import TextSet
from coterie.verbs.compare.cells import CALIBRATION, Cell, Frame
from coterie.verbs.compare.methods import title_of
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.compare.rows import rows_of
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import Prepared, text_part
from coterie.verbs.shared.provenance import machine, versions
from coterie.verbs.shared.workspace import Workspace


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
    request, prepared = asked.request, asked.prepared
    second = prepared.second
    n_second = 0 if second is None else second.n_sequences
    frame = Frame(asked.texts, floor_nll(workspace.calibration.engine.vocabulary), full, n_second)
    # The calibration texts judge too, in a column of their own: how far a method overfits.
    held_out = [text for name, text in asked.texts.items() if name != CALIBRATION]
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
        # As prepared: a method that ranks reads the first few of these.
        calibration=text_part(prepared.calibration),
        second=None if second is None else text_part(second),
        held_out=[text_part(text) for text in held_out],
        tasks=list(request.tasks),
        full=rows_of(frame, [[full]])[0],
        rows=_all_rows(frame, request, cells),
        # Without a gap: a gap is in its row.
        cells=[_cell_part(frame, cell) for cell in cells if cell.gap is None],
        remarks=_remarks(cells),
        versions=versions(),
        machine=machine(torch.get_num_threads(), str(workspace.prepared.device)),
        cluster=workspace.opened.cluster_part(),
    )


def _all_rows(frame: Frame, request: CompareRequest, cells: Sequence[Cell]) -> list[RowPart]:
    """A row for every number removed and method, in the order they were asked for."""
    rows = []
    for removed in request.removals:
        groups = [
            [cell for cell in cells if (cell.where.method, cell.where.removed) == (name, removed)]
            for name in request.rows
        ]
        # A method that has not played at this size has no row, not even an empty one.
        rows += rows_of(frame, [group for group in groups if group])
    return rows


def _cell_part(frame: Frame, cell: Cell) -> CellPart:
    assert cell.answer is not None
    lengths = [name for name in frame.texts if name != CALIBRATION]
    return CellPart(
        method=cell.where.method,
        removed=cell.where.removed,
        seed=cell.where.seed,
        kept=[np.flatnonzero(row).tolist() for row in from_text(cell.coalitions())],
        players=str(cell.answer["players"]),
        held_out={name: float(frame.mean([cell], name)[0].mean()) for name in lengths},
    )


def _remarks(cells: Sequence[Cell]) -> list[str]:
    """What methods remarked, each once."""
    said = []
    for cell in cells:
        remarks = cell.played["remarks"]
        assert isinstance(remarks, list)
        # Every seed may say the same, so each remark is kept once, in order.
        title = title_of(cell.where.method)
        said += [f"{title}: {remark}" for remark in remarks]
    return list(dict.fromkeys(said))
