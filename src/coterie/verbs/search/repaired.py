"""The last rounds of a search are played repaired, for the best cut before repair is not it after.

What a search without repair has found starts it, beside the cuts that the full model's states say
are likely to mend (`coterie.repair.distances`). Each is repaired before the gaps, as `both` does,
and judged by what it then loses; the best of them are improved by exchanging layers, and decided on
the second texts as well. Which repair is applied in the end is chosen when it is applied.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from coterie.errors import RepairError
from coterie.game.coalitions import Coalitions, Game, distinct
from coterie.game.search.decide import decide
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer
from coterie.models.families.fields import text_config
from coterie.repair.amount import sequences_in_a_game
from coterie.repair.distances import gap_distances, likely_cuts
from coterie.repair.game import RepairedGame
from coterie.repair.methods.both import BOTH
from coterie.repair.search import swap_search
from coterie.texts.sets import TextSet
from coterie.verbs.search.result import RepairedRounds, Search, SearchResult, ordered
from coterie.verbs.search.timed import ConcatenatedGame
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

ASKED, ASKED_ON_A_GPU = 16, 64
"""Coalitions of a size that are repaired and judged, at most: about five seconds each for a model
of 135 million parameters on two processor cores, a fifth of one on a GPU."""

FOUND = 3
"""Coalitions of a size that start it from the search without repair; the likely ones are half of
all that may be asked."""

FINALISTS = 3
"""Coalitions of a size that are decided between on the second texts."""


def asked_on(device: str) -> int:
    """Coalitions of a size that are repaired and judged, at most, on this type of device."""
    return ASKED if device == "cpu" else ASKED_ON_A_GPU


def choose_repaired(
    workspace: Workspace, search: Search, found: SearchResult, progress: Progress
) -> SearchResult:
    """What a search has found, looked at again by what each coalition loses once it is repaired.

    Args:
        workspace: The opened model and its texts.
        search: Sizes, and what may win.
        found: The result without repair.
        progress: Told what is being done.

    Returns:
        The same result with the decisions of the repaired game; as it was, with a remark, where the
        model cannot be repaired or the text is too short to refit on.
    """
    began = time.monotonic()
    try:
        fit = fitting_texts(workspace.prepared)
        game = _game(workspace, fit, workspace.calibration.texts)
        second = workspace.prepared.second
        progress.say("searching on: coalitions are repaired and judged by what they then lose")
        ledger = Ledger(game, floor=found.ledger.floor)
        finalists = _searched(workspace, search, found, ledger, progress)
        decider: Game = game
        if second is not None:
            decider = ConcatenatedGame(game, _game(workspace, fit, second))
        union = Ledger(decider, floor=ledger.floor)
        decisions = decide(union, finalists, found.documents)
        union.losses(np.ones((1, ledger.n_players), dtype=bool))
    except RepairError as reason:
        progress.say(f"warning: searched without repair: {reason}")
        return replace(found, remark=_joined(found.remark, f"searched without repair: {reason}"))
    rounds = RepairedRounds(ledger.n_asked, game.layer_tokens, time.monotonic() - began)
    return replace(
        found,
        decisions=decisions,
        finalists=ordered(finalists),
        union=union,
        remark=_joined(found.remark, rounds.remark),
        repaired=rounds,
        seconds_choosing=found.seconds_choosing + rounds.seconds,
        not_finite=found.not_finite + union.not_finite,
    )


def _searched(
    workspace: Workspace,
    search: Search,
    found: SearchResult,
    ledger: Ledger,
    progress: Progress,
) -> list[Answer]:
    """The best repaired coalitions of each size, and the best of those without repair."""
    game = ledger.game
    assert isinstance(game, RepairedGame)
    most = asked_on(workspace.prepared.device.type)
    distances, locked = gap_distances(game.full_states), workspace.locked
    finalists = []
    for done, keep in enumerate(sorted(set(search.keeps), reverse=True)):
        progress.step("repaired search, sizes", done, len(set(search.keeps)))
        before = _of_size(found, keep)
        likely = likely_cuts(distances, ledger.n_players - keep, most // 2, locked)
        starts = _allowed(search, np.concatenate([before[:FOUND], likely]))
        starts = starts[distinct(starts)[0]]
        if not len(starts):
            continue
        asked = ledger.n_asked
        swap_search(ledger, starts, most=asked + most, locked=locked, allowed=search.allowed)
        coalitions, values = ledger.known(keep)
        best = np.argsort(-values, kind="stable")[:FINALISTS]
        finalists += [Answer("repaired", coalitions[row], float(values[row])) for row in best]
        finalists += [Answer("before repair", before[0], float(ledger.value(before[:1])[0]))]
    return finalists


def _of_size(found: SearchResult, keep: int) -> Coalitions:
    """The winner of a size without repair, and the other finalists."""
    own = [answer.coalition for answer in found.finalists if int(answer.coalition.sum()) == keep]
    whole = np.array([found.keep(keep), *own])
    return whole[distinct(whole)[0]]


def _allowed(search: Search, coalitions: Coalitions) -> Coalitions:
    may_win: Callable[[Coalitions], np.ndarray] | None = search.allowed
    return coalitions if may_win is None else coalitions[may_win(coalitions)]


def _game(workspace: Workspace, fit: TextSet, texts: TextSet) -> RepairedGame:
    return RepairedGame(workspace.model, workspace.stack, fit.tokens, texts.tokens, BOTH)


def fitting_texts(prepared: Prepared, most: int | None = None) -> TextSet:
    """Sequences of the calibration text that neither choose, decide nor judge.

    Args:
        prepared: The texts of the run.
        most: How many at most, where there are more than a game needs.

    Raises:
        RepairError: fewer are left than a game needs.
    """
    chosen = [prepared.calibration, *([] if prepared.second is None else [prepared.second])]
    n_chosen = sum(texts.n_sequences for texts in chosen)
    length = prepared.calibration.length
    wanted = sequences_in_a_game(text_config(prepared.source.config()), length)
    # Drawn as the texts of the run were, so that what judges stays apart.
    recipe = replace(prepared.recipe, sequences=n_chosen) if len(chosen) > 1 else prepared.recipe
    more = recipe.more(n_chosen + max(wanted, most or 0))
    known = {row.tobytes() for texts in chosen for row in texts.tokens}
    new = np.array([row.tobytes() not in known for row in more.tokens], dtype=bool)
    if int(new.sum()) < wanted:
        raise RepairError(
            f"the calibration text has {int(new.sum())} sequences of {length} tokens beside those"
            f" that choose, and {wanted} are needed to refit layers: give more text (--calibration)"
        )
    return more.some(np.flatnonzero(new)[: most or wanted])


def _joined(first: str | None, second: str) -> str:
    return second if first is None else f"{first}; {second}"
