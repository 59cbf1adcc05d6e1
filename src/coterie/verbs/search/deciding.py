"""The last word between the finalists of a search, on a second set of texts."""

from collections.abc import Sequence

import numpy as np

from coterie.game.clocked import ClockedGame
from coterie.game.coalitions import Game, Indices
from coterie.game.search.decide import decide_between
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer
from coterie.verbs.search.game import SearchedGame
from coterie.verbs.search.result import SearchResult
from coterie.verbs.search.timed import ConcatenatedGame
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import TextGame, Workspace


def decided(
    workspace: Workspace,
    played: SearchedGame,
    ledger: Ledger,
    groups: Sequence[Sequence[Answer]],
    progress: Progress,
) -> SearchResult:
    """The finalists decided: texts together with the second ones, a mix by what it has seen.

    Args:
        workspace: The opened model and its texts.
        played: What was searched.
        ledger: The account of the search.
        groups: Finalists that are decided between, a winner of each.
        progress: Told what is being done.
    """
    union, documents, second, clock = ledger, played.documents, None, None
    if not played.in_full:
        progress.say("deciding between the finalists on more text")
        second = workspace.second()
        game: Game = played.game
        if second is not None:
            clock = ClockedGame(second.game)
            game = ConcatenatedGame(game, clock)
        # The same floor as the search, so that a breakdown is worth the same in both.
        union, documents = Ledger(game, floor=ledger.floor), _documents(played, second)
    elif (others := played.others()) is not None:
        progress.say("deciding between the finalists on other items")
        union, documents = Ledger(others.game, floor=others.floor), others.documents
    decisions = [decide_between(union, answers, documents) for answers in groups]
    # The full model is asked last: what the choice costs is measured against it.
    grand = np.ones((1, ledger.n_players), dtype=bool)
    union.losses(grand), ledger.losses(grand)
    asked, layer_tokens = played.account(ledger)
    if second is not None:
        layer_tokens += second.layer_tokens_asked(union.seen()[0])
    return SearchResult(
        played=played,
        decisions=decisions,
        finalists=[answer for answers in groups for answer in answers],
        ledger=ledger,
        union=union,
        documents=documents,
        second=second,
        layer_tokens_asked=layer_tokens,
        decided_apart=played.in_full and union is not ledger,
        not_finite=max(ledger.not_finite, union.not_finite) + played.not_finite,
        asked=asked,
        seconds_saved=0.0 if clock is None else clock.saved,
    )


def _documents(played: SearchedGame, second: TextGame | None) -> Indices:
    first = played.documents
    if second is None:
        return first
    # Numbers of the second's documents follow the first's, so that no two share one.
    return np.concatenate([first, second.documents + int(first.max()) + 1])
