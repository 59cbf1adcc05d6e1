"""Choose the coalition of each size by any method, finalists decided on a second set of texts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coterie.errors import CutError, UserError
from coterie.game.coalitions import Coalition, Coalitions, Game, Indices, distinct, sizes, to_text
from coterie.game.search import (
    Answer,
    Decision,
    Judge,
    Ledger,
    by_race,
    contiguous,
    decide,
    evolve,
    greedy,
    guided,
    one_shot,
    whole_layer_sequences,
)
from coterie.game.study import Settings, design
from coterie.game.utilities import floor_nll
from coterie.verbs.search.paper import PaperStudy, search
from coterie.verbs.search.timed import ConcatenatedGame, OutOfTime, TimedGame
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import TextGame, Workspace

MOST_COALITIONS = 2_000
"""Where guided search ends at the latest unless told otherwise; its layer-tokens end it sooner."""

CLOSE = 8
"""Of each size, how many coalitions that the texts cannot tell apart guided search puts forward."""

FINALISTS = 4 + CLOSE
"""Greedy, one-shot, contiguous, ranked, guided's: layer-tokens are set aside to decide them."""

Allowed = Callable[[Coalitions], NDArray[np.bool_]]
"""Says which coalitions may be chosen at all, ``(n_coalitions,)``."""


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a method found on a model, how its finalists stand, and what it asked."""

    method: str
    decisions: list[Decision]
    """One per size, largest first."""
    finalists: list[Answer]
    """Who was decided between, in the order of the decisions' standings."""
    ledger: Ledger
    """The account of the search, on the calibration texts."""
    union: Ledger
    """The account of the decision, on the calibration texts and the second texts together."""
    documents: Indices
    """The document of each of the union's sequences."""
    second: TextGame | None
    """The second texts; None where the calibration texts alone decide."""
    layer_tokens_asked: int
    asked: Coalitions
    """Every distinct coalition asked."""
    known: int
    """How many of these the store knew on every calibration text before."""
    not_finite: int
    out_of_time: bool
    seconds_observing: float
    seconds_choosing: float
    searched: PaperStudy | None = None
    """The study behind it, where the method is the paper's."""
    remark: str | None = None
    """What the allowance did not reach for, in one sentence."""

    def keep(self, size: int) -> Coalition:
        """The coalition chosen at this size."""
        for decision in self.decisions:
            if int(decision.winner.coalition.sum()) == size:
                return decision.winner.coalition
        raise KeyError(size)

    @property
    def best(self) -> Decision:
        """The decision whose winner has the lowest loss of all sizes."""
        return max(self.decisions, key=lambda decision: decision.winner.value)


def choose(
    workspace: Workspace,
    method: str,
    keeps: Sequence[int],
    *,
    budget: int | None = None,
    seconds: float | None = None,
    most_layer_tokens: float | None = None,
    seed: int = 0,
    allowed: Allowed | None = None,
    progress: Progress,
) -> SearchResult:
    """Play a method on an opened model and decide between what it found.

    Guided search and evolution ask about a tenth of the layer-tokens that the paper's method asks,
    the decision between finalists included, unless ``budget`` or ``most_layer_tokens`` says
    otherwise. Greedy's answers are found whatever they come to, by safe races where they would cost
    too much in full: guided search is not to end below them.

    Args:
        method: One of `coterie.verbs.shared.request.METHODS`.
        keeps: Sizes to choose a coalition of.
        budget: Most distinct coalitions that the search asks for.
        seconds: Most seconds the search spends observing.
        most_layer_tokens: Most layer-tokens that search and decision ask for.
        allowed: Which coalitions may win; all by default.

    Raises:
        UserError: the time ended before anything of an asked size was known, or nothing that is
            allowed was found.
    """
    keeps = sorted(set(keeps), reverse=True)
    if method == "paper":
        return _by_paper(workspace, keeps, budget, seconds, seed, progress)
    began = time.monotonic()
    played, second = workspace.calibration, workspace.second()
    n_second = 0 if second is None else second.texts.n_sequences
    known = played.known_coalitions()
    limit = _limit(workspace, keeps, budget, most_layer_tokens, n_second)
    floor = floor_nll(played.engine.vocabulary)
    most = (budget or MOST_COALITIONS) * max(keeps) * played.texts.n_sequences
    total = int(min(limit, most))

    def tell(done: int) -> None:
        progress.step("searching, layer-sequences", min(done, total), total)

    clock = TimedGame(played.game, seconds=seconds, tell=tell)
    ledger = Ledger(clock, floor=floor)
    remark, out_of_time = None, False
    try:
        locked = np.array(workspace.locked, dtype=np.intp)
        finalists, remark = play(
            ledger, method, keeps, locked=locked, budget=budget, limit=limit, seed=seed
        )
    except OutOfTime:
        out_of_time, finalists = True, []
    clock.seconds = np.inf  # what follows is little, and asked whatever the time
    finalists = admitted(ledger, method, finalists, keeps, allowed, seconds)
    game: Game = played.game if second is None else ConcatenatedGame(played.game, second.game)
    union = Ledger(game, floor=floor)
    progress.say("deciding between the finalists on more text")
    documents = _documents(played, second)
    decisions = decide(union, finalists, documents)
    grand = np.ones((1, ledger.n_players), dtype=bool)
    union.losses(grand), ledger.losses(grand)
    asked, _ = ledger.seen()
    decided = int(sizes(union.seen()[0]).sum()) * n_second
    return SearchResult(
        method=method,
        decisions=decisions,
        finalists=ordered(finalists),
        ledger=ledger,
        union=union,
        documents=documents,
        second=second,
        layer_tokens_asked=(ledger.layer_sequences + decided) * played.texts.length,
        asked=asked,
        known=sum(to_text(row) in known for row in asked),
        not_finite=max(ledger.not_finite, union.not_finite),
        out_of_time=out_of_time,
        seconds_observing=clock.spent,
        seconds_choosing=time.monotonic() - began,
        remark=remark,
    )


def tenth_of_paper(n_players: int, locked: Sequence[int]) -> int:
    """A tenth of the layer-sequences that the paper's method asks: its design on one text of ten.

    Times the length of a sequence, these are layer-tokens.
    """
    settings = Settings.published(n_players, locked)
    strata = design(settings, n_players, np.random.default_rng(0))
    return int(sum(stratum.coalitions.sum() for stratum in strata))


def _limit(
    workspace: Workspace,
    keeps: Sequence[int],
    budget: int | None,
    most_layer_tokens: float | None,
    n_second: int,
) -> float:
    """Layer-sequences that the search itself may ask."""
    if most_layer_tokens is not None:
        whole = most_layer_tokens / workspace.calibration.texts.length
    elif budget is not None:
        return np.inf
    else:
        whole = tenth_of_paper(workspace.stack.n_players, workspace.locked)
    return max(0.0, whole - FINALISTS * sum(keeps) * n_second)


def play(
    ledger: Ledger,
    method: str,
    keeps: Sequence[int],
    *,
    locked: Indices,
    budget: int | None,
    limit: float,
    seed: int,
    judge: Judge = by_race,
) -> tuple[list[Answer], str | None]:
    """The finalists of a method, its own answer of every size first, and what it has to remark.

    Args:
        limit: Layer-sequences that guided search and evolution may ask.
        judge: How guided search compares candidates.
    """
    rng = np.random.default_rng([seed, 3])
    if method == "guided":
        # Never below greedy: where reading all of it costs more than the limit, only what comes
        # after its descent is bounded, and the descent goes by races that are safe.
        n, n_locked = ledger.n_players, len(locked)
        whole = whole_layer_sequences(n, keeps, ledger.n_sequences, n_locked=n_locked)
        reached = ledger.layer_sequences + whole <= limit
        found = guided(
            ledger,
            keeps,
            budget=budget or MOST_COALITIONS,
            most_layer_sequences=limit,
            allowance=limit if reached else np.inf,
            close=CLOSE,
            locked=locked,
            judge=judge,
            rng=rng,
        )
        return found.finalists, found.remark
    if method == "greedy":
        return greedy(ledger, keeps, locked=locked), None
    if method == "one-shot":
        return one_shot(ledger, keeps, locked=locked), None
    if method == "contiguous":
        return contiguous(ledger, keeps, locked=locked), None
    if budget is not None:
        limit = min(limit, float(budget * max(keeps) * ledger.n_sequences))
    evolved, each = [], limit / len(keeps)
    for keep in keeps:
        until = ledger.layer_sequences + each
        evolved.append(evolve(ledger, keep, locked=locked, most_layer_sequences=until, rng=rng))
    return evolved, None


def admitted(
    ledger: Ledger,
    method: str,
    finalists: Sequence[Answer],
    keeps: Sequence[int],
    allowed: Allowed | None,
    seconds: float | None,
) -> list[Answer]:
    """Finalists that may be chosen; where time ended or a limit binds, the best known join them."""
    found = [f for f in finalists if allowed is None or allowed(f.coalition[None])[0]]
    for keep in keeps:
        coalitions, values = ledger.known(keep)
        if allowed is not None and len(coalitions):
            may = allowed(coalitions)
            coalitions, values = coalitions[may], values[may]
        missing = not any(int(f.coalition.sum()) == keep for f in found)
        if len(coalitions) and (missing or allowed is not None):
            best = int(values.argmax())
            found.append(Answer(method, coalitions[best], float(values[best])))
        elif missing and allowed is None and not finalists:
            raise UserError(
                f"--time {seconds:g}s ended before a coalition of {keep} was known: give more time,"
                " or fewer --sequences; what was observed is kept"
            )
        elif missing and allowed is None:
            raise CutError(f"--method {method} has no answer of size {keep}: every run is locked")
    if not found:
        raise CutError("no coalition that was observed meets the target: allow a larger --budget")
    return found


def _by_paper(
    workspace: Workspace,
    keeps: Sequence[int],
    budget: int | None,
    seconds: float | None,
    seed: int,
    progress: Progress,
) -> SearchResult:
    """The paper's ranking: one study for all sizes; nothing is left to decide."""
    began = time.monotonic()
    request = replace(workspace.request, budget=budget, time=seconds, seed=seed)
    searched = search(workspace, keeps[0] if len(keeps) == 1 else None, progress, request=request)
    study, played = searched.study, workspace.calibration
    ledger = Ledger(played.game, floor=floor_nll(played.engine.vocabulary))
    coalitions = np.array([study.keep(keep) for keep in keeps])
    values = ledger.value(coalitions)
    answers = [Answer("paper", c, float(v)) for c, v in zip(coalitions, values, strict=True)]
    documents = played.texts.documents
    return SearchResult(
        method="paper",
        decisions=decide(ledger, answers, documents),
        finalists=ordered(answers),
        ledger=ledger,
        union=ledger,
        documents=documents,
        second=None,
        layer_tokens_asked=searched.budget.layer_tokens_asked,
        asked=study.asked[distinct(study.asked)[0]],
        known=searched.budget.known,
        not_finite=searched.budget.not_finite,
        out_of_time=False,
        seconds_observing=study.seconds_observing,
        seconds_choosing=time.monotonic() - began,
        searched=searched,
    )


def _documents(played: TextGame, second: TextGame | None) -> Indices:
    first = played.texts.documents
    if second is None:
        return first
    return np.concatenate([first, second.texts.documents + len(played.texts.document_names)])


def ordered(finalists: Sequence[Answer]) -> list[Answer]:
    """Largest size first, as `decide` has them."""
    return sorted(finalists, key=lambda answer: -int(answer.coalition.sum()))
