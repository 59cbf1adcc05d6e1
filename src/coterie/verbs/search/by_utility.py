"""Choose the coalition that is worth most by a mix of utilities: tasks decide, not the loss."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions, Indices, observe_all, to_text
from coterie.game.search.decide import decide
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SEARCH_METHODS
from coterie.game.search.plain import absences
from coterie.game.search.race import in_full
from coterie.game.search.task import Finalists, SearchTask
from coterie.game.utilities import log_loss
from coterie.report.schema.part import known
from coterie.report.schema.plan import PlanPart
from coterie.report.schema.record import Record
from coterie.report.schema.search import MixPart, UtilityPart
from coterie.scores.task_game import MixedGame
from coterie.verbs.search.choose import Allowed, Search, SearchResult, admitted, ordered
from coterie.verbs.search.nearby import LocalContributions, around
from coterie.verbs.search.paper import PaperStudy
from coterie.verbs.search.record import chosen_record, searched_record
from coterie.verbs.search.targets import target_of
from coterie.verbs.search.timed import OutOfTime, TimedGame
from coterie.verbs.search.utilities import (
    UNIT,
    Mix,
    budget_of,
    game_of_task,
    known_of,
    mixed,
    mixes_texts,
    of_mix,
    single_part,
    study_of,
    utility_part,
)
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.record import contributions_part, cut_part
from coterie.verbs.shared.settings import size_asked, task_of
from coterie.verbs.shared.workspace import Workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task


def chosen_by_mix(
    workspace: Workspace, tasks: Mapping[str, "Task"], output: Path, progress: Progress
) -> tuple[Coalition, Record]:
    """The coalition that stays, and the record so far.

    Args:
        workspace: The opened model and its texts.
        tasks: The tasks of the mix, by name.
        output: Folder of the checkpoint; None where none is written.
        progress: Shows what goes on.

    Raises:
        UserError: a utility no layer changes, a target that no cut meets, or no time for an answer.
    """
    request, target = workspace.request, target_of(workspace)
    kind = request.player_kind()
    keeps = [size_asked(request, workspace.stack.n_players, workspace.locked) or 0]
    if target is not None:
        keeps = target.keeps(workspace.locked, kind)
    # One size, or equal costs: any coalition of that size meets the target.
    allowed = None if target is None or len(keeps) == 1 else target.allowed
    mix = mixed(workspace, tasks, progress)
    # The table of methods says which of the two ways a method goes.
    by = _by_ranking if SEARCH_METHODS[request.method].ranks else _by_search
    coalition, record, parts = by(
        workspace, mix, keeps=keeps, allowed=allowed, output=output, progress=progress
    )
    # What the cut model scores alone, on the items that chose it; it is known to the store by now.
    after = [
        scaled.part.scores(observe_all(scaled.part.game, coalition[None])) for scaled in mix.parts
    ]
    parts = [replace(p, cut=float(s.mean())) for p, s in zip(parts, after, strict=True)]
    of_mix(record, request)
    spec = request.utility or ""
    record.utility = MixPart(spec=spec, unit=UNIT, items=request.task_items, parts=parts)
    if target is not None:
        record.target = target.part(coalition)
    return coalition, record


def _by_ranking(
    workspace: Workspace,
    mix: Mix,
    keeps: Sequence[int],
    allowed: Allowed | None,
    output: Path,
    progress: Progress,
) -> tuple[Coalition, Record, list[UtilityPart]]:
    """The paper's way: a study, and a cut of those who contribute least to the mix."""
    study = study_of(workspace, mix.game, progress)
    # The first size, largest first, whose lowest contributors may all go together.
    coalition = next(
        one for one in map(study.keep, keeps) if allowed is None or allowed(one[None])[0]
    )
    searched = PaperStudy(study, budget_of(workspace, study, mix))
    record = searched_record("prune", workspace, searched, output)
    estimate = study.contributions.estimate
    record.cut = cut_part(coalition, estimate, workspace.request.player_kind())
    return coalition, record, [single_part(workspace, one, progress) for one in mix.parts]


def _by_search(
    workspace: Workspace,
    mix: Mix,
    keeps: Sequence[int],
    allowed: Allowed | None,
    output: Path,
    progress: Progress,
) -> tuple[Coalition, Record, list[UtilityPart]]:
    """Any search on the mix, and what players contribute near what it found."""
    found = _search(workspace, mix, keeps, allowed, progress)
    coalition = found.best.winner.coalition
    # The search's own coalitions are read again; the model is not asked.
    progress.say("estimating contributions around what was chosen")
    near = _around(workspace, found, mix.game)
    record = chosen_record("prune", workspace, found, output, near)
    record.choice = replace(known(record.choice), unit=f"loss of utility; 1 is {UNIT}")
    record.cut = cut_part(coalition, None, workspace.request.player_kind())
    # Each part as a game of its own, so that one utility's contributions mix with no other's.
    kind, parts = workspace.request.player_kind(), []
    for scaled in mix.parts:
        alone, part = _around(workspace, found, MixedGame([scaled])), None
        if alone is not None:
            part = contributions_part(alone.estimate, UNIT, alone.replicates, alone.n_base, kind)
        parts.append(utility_part(scaled, part))
    return coalition, record, parts


def _search(
    workspace: Workspace,
    mix: Mix,
    keeps: Sequence[int],
    allowed: Allowed | None,
    progress: Progress,
) -> SearchResult:
    """Play the method that was asked for; the items that choose also decide."""
    request, game, began = workspace.request, mix.game, time.monotonic()
    search = replace(Search.of(request, keeps), allowed=allowed)
    method, task = SEARCH_METHODS[request.method], _task(workspace, mix, keeps)
    # Every term of the total is an upper bound: the display may end early, never run over.
    total = method.most(task) * max(task.keeps) * game.n_sequences

    def tell(done: int) -> None:
        progress.step("searching by utility", min(done, total), total)

    clock = TimedGame(game, seconds=request.time, tell=tell)
    ledger = Ledger(clock, floor=np.inf)  # a mix is finite, whatever its parts have seen
    found, out_of_time = Finalists(), False
    try:
        found = method.play(ledger, replace(task, budget=method.most(task)))
    except OutOfTime:
        out_of_time = True
    # The mix has no finalists' texts of its own: the same items decide.
    clock.seconds = np.inf  # what follows is little, and asked whatever the time
    finalists = admitted(ledger, search, found.answers)
    decisions = decide(ledger, finalists, game.clusters)
    asked = _asked(ledger, task.locked_players)
    return SearchResult(
        method=request.method,
        decisions=decisions,
        finalists=ordered(finalists),
        ledger=ledger,
        union=ledger,
        documents=game.clusters,
        second=None,
        layer_tokens_asked=mix.layer_tokens_asked(workspace, asked),
        asked=asked,
        known=sum(to_text(row) in mix.known for row in asked),
        not_finite=game.not_finite,
        out_of_time=out_of_time,
        seconds_observing=clock.spent,
        seconds_choosing=time.monotonic() - began,
        remark=found.remark,
    )


def _asked(ledger: Ledger, locked: Indices) -> Coalitions:
    """Every distinct coalition asked: the search's, and those the utilities were weighed by."""
    grand = np.ones((1, ledger.n_players), dtype=bool)
    weighed = absences(ledger.n_players, locked=locked)
    # The full model is what every loss of utility is measured from.
    ledger.losses(grand)
    return np.unique(np.concatenate([grand, weighed, ledger.seen()[0]]), axis=0)


def _around(
    workspace: Workspace, found: SearchResult, game: MixedGame
) -> LocalContributions | None:
    """What players contribute to some utilities near what was chosen; nothing more is asked."""
    ledger = Ledger(game, floor=np.inf)
    # Asking a stored game again costs nothing, and fills the ledger of this part alone.
    ledger.losses(found.ledger.known()[0])
    locked = np.array(workspace.locked, dtype=np.intp)
    return around(
        replace(found, ledger=ledger),
        game.clusters,
        locked,
        seed=workspace.request.seed,
        formula=log_loss,
    )


def _task(workspace: Workspace, mix: Mix, keeps: Sequence[int]) -> SearchTask:
    """The task of a method on a mix; its parts are asked as a whole: races would save nothing."""
    request = workspace.request
    keeps = tuple(sorted(set(keeps), reverse=True))
    # Largest first, as `decide` returns its decisions.
    task = task_of(request, mix.game.n_players, workspace.locked, keeps)
    return replace(task, judge=in_full)


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
    request, games = workspace.request, [game_of_task(workspace, *one) for one in tasks.items()]
    seconds, answers = 0.0, 0
    # The full model stands for the slowest coalition: a cut one answers faster.
    grand = np.ones((1, workspace.stack.n_players), dtype=bool)
    for game in games:
        began = time.perf_counter()
        observe_all(game.inner, grand)
        seconds += time.perf_counter() - began
        answers += game.n_sequences
    texts = mixes_texts(request)
    stored = [known_of(game) for game in games]
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
        answers=answers,
        at_most=True,
    )
