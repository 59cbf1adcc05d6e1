"""Choose the coalition of each size by any method, finalists decided on a second set of texts."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from coterie.engine.training import trainer_on
from coterie.errors import CutError
from coterie.game.coalitions import distinct, from_text, to_text
from coterie.game.search.decide import by_size, decide
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SEARCH_METHODS, SearchMethod
from coterie.game.search.methods.guided import CLOSE, MOST_COALITIONS
from coterie.game.search.plain import Answer, absences, by_absence
from coterie.game.search.race import in_full, least_texts
from coterie.game.search.task import Finalists, SearchTask
from coterie.verbs.search.deciding import decided
from coterie.verbs.search.game import SearchedGame
from coterie.verbs.search.paper import PaperStudy, paper_study
from coterie.verbs.search.result import Search, SearchResult, ordered
from coterie.verbs.search.served import play_served
from coterie.verbs.search.timed import OutOfTime, TimedGame
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.settings import task_of
from coterie.verbs.shared.workspace import Workspace

FINALISTS = 4 + CLOSE
"""Greedy, one-shot, contiguous, ranked, guided's: layer-tokens are set aside to decide them."""


PERCENT = 100
"""Steps in which a search says how far it has come."""


def choose(
    workspace: Workspace, search: Search, progress: Progress, mix: SearchedGame | None = None
) -> SearchResult:
    """Play a method on an opened model and decide between what it found.

    Guided search goes on until rounds no longer improve the cut, within some times greedy's work,
    and never ends below greedy's answers; bounds may say otherwise. With a time, one-shot's answers
    come first in any case; when it ends, the best that run and store know are the finalists.

    Args:
        workspace: The opened model and its texts.
        search: The method, the sizes and the bounds.
        progress: Shows what goes on.
        mix: What is searched instead of the calibration texts: a mix of utilities.

    Raises:
        CutError: nothing that is allowed was found.
    """
    method = SEARCH_METHODS[search.method]
    began, played = time.monotonic(), workspace.calibration if mix is None else mix
    known = played.known_coalitions()
    clock = _clock(played, task := _task(workspace, played, search, progress), method, progress)
    first = _first_round(clock, ledger := Ledger(clock, floor=played.floor), task)
    try:  # out of time, what ledger and store hold still answers
        found, out_of_time = played.play(method, ledger, task), False
    except OutOfTime:
        found, out_of_time = Finalists(), True
        clock.seconds = np.inf
        _recall(ledger, known, task)
    if not method.keeps_time:  # it may have ended early
        progress.step(played.stage, PERCENT, PERCENT)
    if found.study is not None:
        studied = paper_study(workspace, played, found.study, known)
        seconds = time.monotonic() - began, clock.saved
        return _ranked(search.method, played, ledger, found, studied=studied, lasted=seconds)
    clock.seconds = np.inf  # what follows is little, and asked whatever the time
    _play_served(workspace, ledger, search, task, progress)
    more = _allowed(first, search) if out_of_time else []  # in time, the method's alone
    finalists = by_size([*_admitted(ledger, search, found.answers), *more])
    result = decided(workspace, played, ledger, finalists, progress)
    return replace(
        result,
        method=search.method,
        known=sum(to_text(row) in known for row in result.asked),
        out_of_time=out_of_time,
        seconds_observing=clock.recorded,
        seconds_spent=clock.spent,
        seconds_choosing=time.monotonic() - began,
        seconds_saved=clock.saved + result.seconds_saved,
        remark=found.remark,
    )


def _play_served(
    workspace: Workspace, ledger: Ledger, search: Search, task: SearchTask, progress: Progress
) -> None:
    """Look further among cuts that the runtimes asked for read rightly, where any are asked for."""
    if search.served is None:
        return
    progress.say("searching on among cuts that the runtimes asked for read rightly")
    for keep in task.keeps:
        play_served(ledger, search.served, keep, workspace.locked)


def _first_round(clock: TimedGame, ledger: Ledger, task: SearchTask) -> list[Answer]:
    """One-shot's answers before anything else, where a time might end all else.

    Single absences are read on a few texts, the answers on all: no other answer costs less, so this
    round is asked whatever the time.
    """
    if task.seconds is None or not np.isfinite(clock.seconds):
        return []
    clock.seconds, seconds = np.inf, clock.seconds
    alone = absences(task.n_players, locked=task.locked_players)
    losses = ledger.losses(alone, np.arange(least_texts(ledger.n_sequences)))
    answers = by_absence(ledger, -losses.mean(axis=1), task.keeps, locked=task.locked_players)
    clock.seconds = seconds
    return answers


def _recall(ledger: Ledger, known: set[str], task: SearchTask) -> None:
    """Let a ledger hear what the store knew of the asked sizes: an earlier run's best is not lost.

    Args:
        ledger: The account of the search.
        known: Coalitions the store knew on every text, in their text form.
        task: Sizes, and players that stay.
    """
    coalitions = from_text(sorted(known))
    if not len(coalitions):
        return
    fits = np.isin(coalitions.sum(axis=1), task.keeps)
    # Another run may have had no locks.
    fits &= coalitions[:, task.locked_players].all(axis=1)
    if fits.any():
        ledger.losses(coalitions[fits])


def _task(
    workspace: Workspace, played: SearchedGame, search: Search, progress: Progress
) -> SearchTask:
    """The task of a method, on what chooses alone."""
    keeps = tuple(sorted(set(search.keeps), reverse=True))
    task = replace(
        task_of(workspace.request, workspace.stack.n_players, workspace.locked, keeps),
        budget=search.budget,
        seconds=search.seconds,
        seed=search.seed,
        documents=played.documents,
        vocabulary=workspace.engine.vocabulary,
        trainer=trainer_on(workspace.prepared.device),
        step=progress.step,
    )
    if not played.in_full:
        return replace(task, most_layer_sequences=_limit(workspace, search, task))
    # Layer-tokens are no measure of answers to tasks, so coalitions alone are bounded.
    return replace(task, judge=in_full, budget=SEARCH_METHODS[search.method].most(task))


def _limit(workspace: Workspace, search: Search, task: SearchTask) -> float:
    """Layer-sequences that the search itself may ask, those of the decision set aside."""
    # Explicit bounds first; a budget counts coalitions, so layer-sequences are left unbounded.
    if search.most_layer_tokens is not None:
        whole = search.most_layer_tokens / workspace.calibration.texts.length
    elif search.budget is not None:
        return np.inf
    else:
        whole = SEARCH_METHODS[search.method].meant_to_ask(
            task, workspace.calibration.texts.n_sequences
        )
    second = workspace.prepared.second
    n_second = 0 if second is None else second.n_sequences
    # Finalists are read on the second texts too, and that is part of what was promised.
    return max(0.0, whole - FINALISTS * sum(task.keeps) * n_second)


def _clock(
    played: SearchedGame, task: SearchTask, method: SearchMethod, progress: Progress
) -> TimedGame:
    """The game within the task's seconds, unless the method keeps to them by itself."""
    # The paper's design is fixed beforehand: stopped halfway it would estimate nothing.
    if method.keeps_time:
        return TimedGame(played.game, tell=lambda _: None)
    # Each term of the total is an upper bound: the display may end early, never run over.
    most = (task.budget or MOST_COALITIONS) * max(task.keeps) * played.game.n_sequences
    total = int(min(task.most_layer_sequences, most))

    def tell(done: int) -> None:
        # Whichever ends first is how far it has come: the work, or the time.
        share = done / max(total, 1)
        if task.seconds is not None:
            share = max(share, clock.spent / task.seconds)
        progress.step(played.stage, min(PERCENT, round(PERCENT * share)), PERCENT)

    # Named before it is used: what it is called with is asked only while it answers.
    clock = TimedGame(played.game, seconds=task.seconds, tell=tell)
    return clock


def _allowed(answers: Sequence[Answer], search: Search) -> list[Answer]:
    may_win = search.may_win
    return [one for one in answers if may_win is None or may_win(one.coalition[None])[0]]


def _admitted(ledger: Ledger, search: Search, finalists: Sequence[Answer]) -> list[Answer]:
    """Finalists that may be chosen; where time ended or a limit binds, the best known join them.

    Args:
        ledger: The account of the search.
        search: Sizes, bounds, and what may win.
        finalists: What the method found, if anything.
    """
    may_win, found = search.may_win, _allowed(finalists, search)
    # Where the method gave no answer of a size, the best coalition it came across stands in.
    for keep in sorted(set(search.keeps), reverse=True):
        coalitions, values = ledger.known(keep)
        if may_win is not None and len(coalitions):
            may = may_win(coalitions)
            coalitions, values = coalitions[may], values[may]
        missing = not any(int(f.coalition.sum()) == keep for f in found)
        if len(coalitions) and (missing or may_win is not None):
            best = int(values.argmax())
            found.append(Answer(search.method, coalitions[best], float(values[best])))
        elif missing and may_win is None:
            raise CutError(
                f"--method {search.method} has no answer that keeps {keep}: every run of"
                " neighbours it might cut holds a locked player; lock fewer, or choose another"
                " method"
            )
    if not found:
        raise CutError("no coalition that was observed may be chosen: allow a larger --budget")
    return found


def _ranked(
    method: str,
    played: SearchedGame,
    ledger: Ledger,
    found: Finalists,
    studied: PaperStudy,
    lasted: tuple[float, float],
) -> SearchResult:
    """The result of a ranking: one study for all sizes; nothing is left to decide."""
    study, documents = studied.study, played.documents
    return SearchResult(
        played=played,
        method=method,
        decisions=decide(ledger, found.answers, documents),
        finalists=ordered(found.answers),
        ledger=ledger,
        union=ledger,
        documents=documents,
        # A ranking never looks at second texts: there is one answer per size.
        second=None,
        layer_tokens_asked=studied.budget.layer_tokens_asked,
        asked=study.asked[distinct(study.asked)[0]],
        known=studied.budget.known,
        not_finite=studied.budget.not_finite,
        out_of_time=False,
        seconds_observing=study.seconds_observing,
        seconds_choosing=lasted[0],
        seconds_saved=lasted[1],
        searched=studied,
    )
