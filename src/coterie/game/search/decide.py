"""The last word between finalists, on more texts than they were found on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from coterie.game.coalitions import Coalitions, Vector
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer
from coterie.game.utilities import clustered_mean


@dataclass(frozen=True)
class Standing:
    """How one finalist stands to the winner of its size, in loss per token, on the same texts."""

    method: str
    behind: float
    """Mean extra loss; nothing for the winner, and for whoever found the same coalition."""
    error: float | None
    """Standard error of that difference, paired by document; None of a single document."""


@dataclass(frozen=True, eq=False)
class Decision:
    """The winner of one size, and everyone's standing."""

    winner: Answer
    standings: list[Standing]


def decide(
    ledger: Ledger, finalists: Sequence[Answer], documents: np.ndarray | None = None
) -> list[Decision]:
    """The best finalist of every size on all of the ledger's texts, largest size first.

    Nobody who takes part can be better than the winner there. Of equals, the first named wins.

    Args:
        ledger: The account on all texts that decide.
        finalists: Answers of any methods and sizes.
        documents: Which document each of the ledger's sequences comes from, ``(n_sequences,)``;
            by default each is its own.
    """
    return [decide_between(ledger, answers, documents) for answers in by_size(finalists)]


def by_size(finalists: Sequence[Answer]) -> list[list[Answer]]:
    """The finalists of each size, largest size first."""
    found: dict[int, list[Answer]] = {}
    for answer in finalists:
        found.setdefault(int(answer.coalition.sum()), []).append(answer)
    return [found[size] for size in sorted(found, reverse=True)]


def decide_between(
    ledger: Ledger, answers: Sequence[Answer], documents: np.ndarray | None = None
) -> Decision:
    """The best of some answers on all of the ledger's texts, whatever their sizes.

    Args:
        ledger: The account on all texts that decide.
        answers: One at least; of equals, the first named wins.
        documents: Which document each of the ledger's sequences comes from, ``(n_sequences,)``;
            by default each is its own.
    """
    # Without documents every sequence counts as its own.
    documents = np.arange(ledger.n_sequences) if documents is None else documents
    losses = ledger.losses(np.array([answer.coalition for answer in answers]))
    # argmin takes the first of equals: the order of the finalists decides.
    best = int(losses.mean(axis=1).argmin())
    winner = Answer(answers[best].method, answers[best].coalition, -float(losses[best].mean()))
    standings = [
        # Paired on the same texts: the winner's own difference is exactly zero.
        Standing(answer.method, *clustered_mean(extra, documents))
        for answer, extra in zip(answers, losses - losses[best], strict=True)
    ]
    return Decision(winner, standings)


def close_to_best(
    ledger: Ledger, keep: int, *, most: int, confidence: float = 0.95
) -> list[Answer]:
    """The coalitions of a size that the texts so far cannot tell from the best of it.

    The best of many candidates is partly the luckiest on the texts that chose it; its close rivals
    belong among the finalists, so that other texts have a say. Best first; a single text separates
    nothing by itself and every coalition is as close as any.

    Args:
        ledger: The account that asks the game.
        keep: Kept players, locked ones included.
        most: How many at most.
        confidence: A rival stays unless it is worse beyond this, paired text by text (Student's t).
    """
    return close_of(ledger, *ledger.known(keep), most=most, confidence=confidence)


def close_of(
    ledger: Ledger,
    coalitions: Coalitions,
    values: Vector,
    *,
    most: int,
    confidence: float = 0.95,
) -> list[Answer]:
    """The same for any coalitions that the ledger has asked on all texts.

    Args:
        ledger: The account that asked the game.
        coalitions: ``(n_coalitions, n_players)``, one at least.
        values: Their values, ``(n_coalitions,)``.
        most: How many at most.
        confidence: A rival stays unless it is worse beyond this, paired text by text (Student's t).
    """
    # Stable: of equal values the one observed first stays first.
    order = np.argsort(-values, kind="stable")[:most]
    # On record already: known coalitions were observed on every text.
    losses = ledger.losses(coalitions[order])
    behind = losses - losses[0]
    n = losses.shape[1]
    if n > 1:
        error = behind.std(axis=1, ddof=1) / np.sqrt(n)
        order = order[behind.mean(axis=1) <= stdtrit(n - 1, confidence) * error]
    return [Answer("guided", coalitions[row], float(values[row])) for row in order]
