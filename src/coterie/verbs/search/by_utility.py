"""A cut by utility in the record: what the mix was, and what it came to; and what it would cost."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from coterie.game.coalitions import Coalition, observe_all
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SEARCH_METHODS
from coterie.game.search.task import Step
from coterie.report.schema.contributions import ContributionsPart
from coterie.report.schema.plan import PlanPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import MixPart
from coterie.verbs.search.mix import UNIT, Mix, of_mix, studied_part, utility_part
from coterie.verbs.search.nearby import around
from coterie.verbs.search.result import SearchResult
from coterie.verbs.search.task_utilities import game_of_task, mixes_texts
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.record import contributions_part
from coterie.verbs.shared.settings import task_of
from coterie.verbs.shared.workspace import Workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task


def tell_mix(
    record: Record, mix: Mix, found: SearchResult, coalition: Coalition, progress: Progress
) -> None:
    """Say in the record of a search that a mix was the value, and what became of its parts.

    Args:
        record: The record so far.
        mix: The utilities, as they were searched.
        found: What was found.
        coalition: What stays.
        progress: Shows what goes on.
    """
    request, parts = mix.workspace.request, []
    for scaled in mix.parts:
        part = utility_part(scaled, _alone(mix.alone(scaled), found, progress.step))
        # What the cut model scores alone, on the items that chose it.
        after = scaled.part.scores(observe_all(scaled.part.game, coalition[None]))
        parts.append(replace(part, cut=float(after.mean())))
    of_mix(record, request)
    if record.choice is not None:
        record.choice = replace(record.choice, unit=f"loss of utility; 1 is {UNIT}")
    spec = request.utility or ""
    record.utility = MixPart(spec=spec, unit=UNIT, items=request.task_items, parts=parts)


def _alone(alone: Mix, found: SearchResult, step: Step) -> ContributionsPart | None:
    """What players contribute to one part, from what the search of the mix asked already."""
    if found.searched is not None:
        return studied_part(alone, step)
    ledger = Ledger(alone.game, floor=alone.floor)
    # Asking a stored game again costs nothing, and fills the ledger of this part alone.
    ledger.losses(found.ledger.known()[0])
    locked, seed = np.array(alone.workspace.locked, dtype=np.intp), alone.workspace.request.seed
    searched = replace(found, ledger=ledger)
    near = around(searched, alone.documents, locked, seed=seed, formula=alone.formula)
    if near is None:
        return None
    kind = alone.workspace.request.player_kind()
    return contributions_part(
        near.estimate, UNIT, near.replicates, near.n_base, kind, remark=near.remark
    )


def planned(
    workspace: Workspace, tasks: Mapping[str, "Task"], part: PlanPart, keep: int
) -> PlanPart:
    """The plan of a run by utility, from that of the same run by loss.

    The full model answers every task once, and is timed; no coalition takes longer.

    Args:
        workspace: The opened model and its texts.
        tasks: The tasks of the mix, by name.
        part: The plan of the same run by loss.
        keep: Size of the cut.
    """
    request = workspace.request
    asked = [game_of_task(workspace, name, task) for name, task in tasks.items()]
    games = [game for game in asked if game is not None]
    # The full model stands for the slowest coalition: a cut one answers faster.
    grand = np.ones((1, workspace.stack.n_players), dtype=bool)
    began = time.perf_counter()
    for game in games:
        observe_all(game.inner, grand)
    seconds = time.perf_counter() - began
    texts = mixes_texts(request)
    stored = [game.known_coalitions() for game in games]
    stored += [workspace.calibration.known_coalitions()] if texts else []
    distinct = part.distinct
    method = SEARCH_METHODS[request.method]
    if not method.ranks:
        distinct = method.most(task_of(request, len(grand[0]), workspace.locked, (keep,)))
    # Layer-tokens grow with coalitions, and only where a part is about text.
    text = distinct / part.distinct if texts else 0.0
    return replace(
        part,
        distinct=distinct,
        known=len(set.intersection(*stored)),
        layer_executions=int(part.layer_executions * text),
        # A coalition is known only if every part of the mix has it.
        layer_tokens_asked=int(part.layer_tokens_asked * text),
        layer_tokens_executed=int(part.layer_tokens_executed * text),
        head_tokens=int(part.head_tokens * text),
        seconds=part.seconds * text + seconds * distinct,
        answers=sum(game.n_sequences for game in games),
        at_most=True,
    )
