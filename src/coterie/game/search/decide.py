"""The last word between finalists, on more texts than they were found on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coterie.game.search.ledger import Ledger
from coterie.game.search.simple import Answer
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
        documents: Which document each of the ledger's sequences comes from, ``(n_sequences,)``;
            by default each is its own.
    """
    documents = np.arange(ledger.n_sequences) if documents is None else documents
    by_size: dict[int, list[Answer]] = {}
    for answer in finalists:
        by_size.setdefault(int(answer.coalition.sum()), []).append(answer)
    decisions = []
    for size in sorted(by_size, reverse=True):
        answers = by_size[size]
        losses = ledger.losses(np.array([answer.coalition for answer in answers]))
        best = int(losses.mean(axis=1).argmin())
        winner = Answer(answers[best].method, answers[best].coalition, -float(losses[best].mean()))
        standings = [
            Standing(answer.method, *clustered_mean(extra, documents))
            for answer, extra in zip(answers, losses - losses[best], strict=True)
        ]
        decisions.append(Decision(winner, standings))
    return decisions
