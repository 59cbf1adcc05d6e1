"""The plain answers that guided search begins with, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from coterie.errors import CutError
from coterie.game.coalitions import Coalitions, Indices, Vector
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import (
    Answer,
    absences,
    by_absence,
    contiguous,
    descent_layers,
    greedy,
)
from coterie.game.search.race import Judge, SafeRaces, least_texts

Descent = Literal["in full", "raced", "cut short"]
"""How greedy's answers were found: in full; by races that err once in a hundred runs; cut short."""


@dataclass(frozen=True)
class GuidedSettings:
    """How much guided search may ask, and how many finalists it names.

    Attributes:
        budget: Distinct coalitions the ledger may hold at the end. The plain answers come out of
            it first; contiguous runs only where they take at most a fifth.
        most_layer_sequences: No round begins that might bring the ledger above this; the plain
            answers are asked all the same.
        allowance: Layer-sequences that the ledger never exceeds, even if steps are then left out.
        close: Of each size, how many coalitions that the texts cannot tell from the best are
            finalists, the best itself included.
        patience: Rounds in a row that improve nothing before the search rests; None: it goes on
            for as long as some improvement is expected.
        most_executed: No round begins that might bring the layers × texts executed above this; the
            plain answers are asked all the same.
    """

    budget: int
    most_layer_sequences: float = np.inf
    allowance: float = np.inf
    close: int = 1
    patience: int | None = None
    most_executed: float = np.inf

    @property
    def aim(self) -> float:
        """Layer-sequences the search is meant to ask."""
        return min(self.most_layer_sequences, self.allowance)


def plain_cost(n_players: int, keeps: Sequence[int], *, n_locked: int = 0) -> int:
    """Coalitions the one-shot, greedy and ranked answers take at most; guidance comes on top.

    Args:
        n_players: Players of the game, locked ones included.
        keeps: Sizes to answer.
        n_locked: How many players stay whatever happens.
    """
    # Every step of the descent asks each player that is left; the answers come on top.
    steps = range(n_players, min(keeps), -1)
    return sum(size - n_locked for size in steps) + 2 * len(keeps) + 1


def least_layer_sequences(
    n_players: int, keeps: Sequence[int], n_sequences: int, *, n_locked: int = 0
) -> int:
    """The smallest allowance: every step of greedy on four texts, all its answers on every text.

    One-shot's and the ranked answers are read on every text too.

    Args:
        n_players: Players of the game, locked ones included.
        keeps: Sizes to answer.
        n_sequences: Texts that each coalition is asked about.
        n_locked: How many players stay whatever happens.
    """
    texts = least_texts(n_sequences)
    return _layer_sequences(n_players, keeps, n_sequences, texts=texts, n_locked=n_locked)


def whole_layer_sequences(
    n_players: int, keeps: Sequence[int], n_sequences: int, *, n_locked: int = 0
) -> int:
    """The same with every step of greedy on every text.

    Args:
        n_players: Players of the game, locked ones included.
        keeps: Sizes to answer.
        n_sequences: Texts that each coalition is asked about.
        n_locked: How many players stay whatever happens.
    """
    return _layer_sequences(n_players, keeps, n_sequences, texts=n_sequences, n_locked=n_locked)


def _layer_sequences(
    n_players: int, keeps: Sequence[int], n_sequences: int, *, texts: int, n_locked: int
) -> int:
    # Three plain methods read every answer on every text: greedy, one-shot, ranked.
    descent = descent_layers(n_players, min(keeps), n_locked=n_locked)
    return texts * descent + 3 * sum(keeps) * n_sequences


def check_reach(
    ledger: Ledger, keeps: Sequence[int], settings: GuidedSettings, n_locked: int
) -> None:
    """Refuse a budget or an allowance below what the plain answers take.

    Args:
        ledger: The account of the search, nothing asked yet or something.
        keeps: Sizes that will be answered.
        settings: The budget and the allowance.
        n_locked: Players that stay.

    Raises:
        CutError: too few coalitions, or too few layer-sequences.
    """
    least = plain_cost(ledger.n_players, keeps, n_locked=n_locked)
    if settings.budget < least:
        raise CutError(
            f"a budget of {settings.budget} coalitions is too small: the greedy, one-shot and"
            f" ranked answers alone take up to {least}; allow at least that many, or choose another"
            " method"
        )
    # Texts are counted too: even races read four of them a step.
    layers = least_layer_sequences(ledger.n_players, keeps, ledger.n_sequences, n_locked=n_locked)
    if settings.allowance < ledger.layer_sequences + layers:
        raise CutError(
            f"an allowance of {settings.allowance:,.0f} layer-sequences is too small: the greedy,"
            f" one-shot and ranked answers alone take {layers:,} at the least; allow that much, or"
            " use fewer sequences"
        )


def plain_answers(
    ledger: Ledger,
    keeps: Sequence[int],
    settings: GuidedSettings,
    locked: Indices,
    judge: Judge,
) -> tuple[list[Answer], Descent]:
    """One-shot's, greedy's and, where it costs a fifth at most, contiguous' answer of every size.

    Args:
        ledger: The account of the search.
        keeps: Sizes to answer.
        settings: How much may be asked.
        locked: Players that stay.
        judge: How contiguous runs are compared.
    """
    plain, descent = _descended(ledger, keeps, settings, locked)
    # Contiguous runs are an extra: left out where they would eat into guidance.
    runs = sum(keep + 1 for keep in keeps)
    spare = settings.budget - plain_cost(ledger.n_players, keeps, n_locked=len(locked))
    layers = ledger.n_sequences * sum((keep + 1) * keep for keep in keeps)
    # What the ranked answers will take at the end is set aside.
    left = settings.allowance - ledger.layer_sequences - ledger.n_sequences * sum(keeps)
    if runs <= min(settings.budget / 5, spare) and layers <= min(settings.allowance / 5, left):
        plain += contiguous(ledger, keeps, locked=locked, judge=judge)
    return plain, descent


def _descended(
    ledger: Ledger, keeps: Sequence[int], settings: GuidedSettings, locked: Indices
) -> tuple[list[Answer], Descent]:
    """One-shot's and greedy's answers: in full where that takes at most half, else by races."""
    n_players, n_sequences = ledger.n_players, ledger.n_sequences
    layers = descent_layers(n_players, min(keeps), n_locked=len(locked))
    answers = 3 * sum(keeps) * n_sequences
    singles = absences(n_players, locked=locked)
    # Greedy in full only where half of the allowance is left for what comes after.
    if layers * n_sequences + answers <= settings.aim / 2:
        found = greedy(ledger, keeps, locked=locked)
        return [*by_absence(ledger, ledger.value(singles), keeps, locked=locked), *found], "in full"
    races = SafeRaces(n_players - min(keeps), layers, settings.allowance - answers)
    found = greedy(ledger, keeps, locked=locked, judge=races)
    found = [*by_absence(ledger, _estimated(ledger, singles), keeps, locked=locked), *found]
    return found, "cut short" if races.short else "raced"


def _estimated(ledger: Ledger, coalitions: Coalitions) -> Vector:
    """Values of coalitions that have been asked about, as far as the texts so far tell."""
    # What lost a race was not read on all texts: the ledger's estimate has to do.
    known, values, _ = ledger.estimates()
    by_row = {row.tobytes(): value for row, value in zip(known, values, strict=True)}
    return np.array([by_row.get(row.tobytes(), np.nan) for row in coalitions])
