"""`values`: what every player contributes, without a cut."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coterie.game.search import front_sizes, plain_cost
from coterie.pipeline.around import around_found
from coterie.pipeline.choosing import choose
from coterie.pipeline.estimating import check_estimator, estimate_true
from coterie.pipeline.opening import Opened, Progress, Silent, opened, prepare
from coterie.pipeline.record import chosen_record, searched_record, with_running
from coterie.pipeline.record_values import estimated_record, interactions_part
from coterie.pipeline.repeats import stability
from coterie.pipeline.request import Request
from coterie.pipeline.search import search
from coterie.pipeline.settings import size_asked, sketch
from coterie.report.record import Record

FRONT_COALITIONS = 409
"""Distinct coalitions a whole front may ask for, or twice what its plain answers take if more."""


@dataclass(frozen=True)
class Result:
    """What a run found. `record` is everything, as `coterie.json` holds it."""

    record: Record

    @property
    def contributions(self) -> list[float | None]:
        """Contribution of each player; None for a locked one; empty where none was estimated."""
        found = self.record.get("contributions")
        return [] if found is None else [layer["value"] for layer in found["layers"]]

    @property
    def kept(self) -> list[int]:
        """Players kept, 0-based; empty where nothing was cut."""
        return self.record["cut"]["kept"] if "cut" in self.record else []

    @property
    def removed(self) -> list[int]:
        """Players cut, 0-based; empty where nothing was cut."""
        return self.record["cut"]["removed"] if "cut" in self.record else []


def values(
    request: Request, *, store: Path | str | None = None, progress: Progress | None = None
) -> Result:
    """Estimate what each player contributes; resumes whatever the store holds already.

    Args:
        store: SQLite file of observations; None is the user's cache.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check(cutting=False)
    progress = progress or Silent()
    prepared = prepare(request, progress=progress)
    n_locked, n_players = len(prepared.locked), sketch(request, prepared.source)[0]
    check_estimator(request.estimator, n_players, n_locked, request.budget)
    with opened(prepared, store=store, progress=progress) as table:
        keep = size_asked(request, n_players, table.locked)
        if request.front:
            return Result(with_running(_front(table, progress), table))
        if request.estimator != "paper":
            record = estimated_record(table, *estimate_true(table, progress))
        else:
            searched = search(table, keep, progress)
            record = searched_record("values", table, searched)
            if request.interactions:
                progress.say("asking the surrogate about every pair")
                record["interactions"] = interactions_part(searched.study, request.player_kind())
        with_running(record, table)  # of this run; repeats are runs of their own
        if request.repeats > 1 and keep is not None:
            record["stability"] = stability(table, keep, progress=progress)
        return Result(record)


def _front(table: Opened, progress: Progress) -> Record:
    """The best coalition of every size, from one player removed to half of them."""
    request = table.request
    sizes = front_sizes(table.stack.n_players, locked=np.array(table.locked, dtype=np.intp))
    least = plain_cost(table.stack.n_players, sizes, n_locked=len(table.locked))
    found = choose(
        table,
        request.method,
        list(sizes),
        budget=request.budget or max(FRONT_COALITIONS, 2 * least),
        seconds=request.time,
        seed=request.seed,
        progress=progress,
    )
    return chosen_record("values", table, found, near=around_found(table, found, progress))
