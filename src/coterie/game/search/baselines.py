"""The plain answers that guided search begins with, and what they cost."""

from collections.abc import Sequence
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
"""How greedy's answers were found: exactly; by races that err once in a hundred runs; on less."""


def plain_cost(n_players: int, keeps: Sequence[int], *, n_locked: int = 0) -> int:
    """Coalitions the one-shot, greedy and ranked answers take at most; guidance comes on top."""
    steps = range(n_players, min(keeps), -1)
    return sum(size - n_locked for size in steps) + 2 * len(keeps) + 1


def least_layer_sequences(
    n_players: int, keeps: Sequence[int], n_sequences: int, *, n_locked: int = 0
) -> int:
    """The smallest allowance: every step of greedy on four texts, all its answers on every text.

    One-shot's and the ranked answers are read on every text too.
    """
    texts = least_texts(n_sequences)
    return _layer_sequences(n_players, keeps, n_sequences, texts=texts, n_locked=n_locked)


def whole_layer_sequences(
    n_players: int, keeps: Sequence[int], n_sequences: int, *, n_locked: int = 0
) -> int:
    """The same with every step of greedy on every text."""
    return _layer_sequences(n_players, keeps, n_sequences, texts=n_sequences, n_locked=n_locked)


def _layer_sequences(
    n_players: int, keeps: Sequence[int], n_sequences: int, *, texts: int, n_locked: int
) -> int:
    descent = descent_layers(n_players, min(keeps), n_locked=n_locked)
    return texts * descent + 3 * sum(keeps) * n_sequences


def check_reach(
    ledger: Ledger, keeps: Sequence[int], budget: int, allowance: float, n_locked: int
) -> None:
    """Refuse what does not reach for the plain answers.

    Raises:
        CutError: too few coalitions, or too few layer-sequences.
    """
    least = plain_cost(ledger.n_players, keeps, n_locked=n_locked)
    if budget < least:
        raise CutError(
            f"a budget of {budget} coalitions does not reach for the plain answers, which take up"
            f" to {least}: allow at least that many, or search without guidance"
        )
    layers = least_layer_sequences(ledger.n_players, keeps, ledger.n_sequences, n_locked=n_locked)
    if allowance < ledger.layer_sequences + layers:
        raise CutError(
            f"an allowance of {allowance:,.0f} layer-sequences does not reach for the plain"
            f" answers, which take {layers:,} at the least: allow that much, or use fewer sequences"
        )


def plain_answers(
    ledger: Ledger,
    keeps: Sequence[int],
    budget: int,
    most: float,
    allowance: float,
    locked: Indices,
    judge: Judge,
) -> tuple[list[Answer], Descent]:
    """One-shot's, greedy's and, where it costs a fifth at most, contiguous' answer of every size.

    Args:
        budget: Coalitions the ledger may hold when all is done.
        most: Layer-sequences the search is meant to ask.
        allowance: Layer-sequences the ledger never exceeds.
        judge: How contiguous runs are compared.
    """
    plain, descent = _descended(ledger, keeps, most, allowance, locked)
    runs = sum(keep + 1 for keep in keeps)
    spare = budget - plain_cost(ledger.n_players, keeps, n_locked=len(locked))
    layers = ledger.n_sequences * sum((keep + 1) * keep for keep in keeps)
    left = allowance - ledger.layer_sequences - ledger.n_sequences * sum(keeps)  # for the ranked
    if runs <= min(budget / 5, spare) and layers <= min(allowance / 5, left):
        plain += contiguous(ledger, keeps, locked=locked, judge=judge)
    return plain, descent


def _descended(
    ledger: Ledger, keeps: Sequence[int], most: float, allowance: float, locked: Indices
) -> tuple[list[Answer], Descent]:
    """One-shot's and greedy's answers: in full where that takes at most half, else by races."""
    n_players, n_sequences = ledger.n_players, ledger.n_sequences
    layers = descent_layers(n_players, min(keeps), n_locked=len(locked))
    answers = 3 * sum(keeps) * n_sequences
    singles = absences(n_players, locked=locked)
    if layers * n_sequences + answers <= most / 2:
        found = greedy(ledger, keeps, locked=locked)
        return [*by_absence(ledger, ledger.value(singles), keeps, locked=locked), *found], "in full"
    races = SafeRaces(n_players - min(keeps), layers, allowance - answers)
    found = greedy(ledger, keeps, locked=locked, judge=races)
    found = [*by_absence(ledger, _estimated(ledger, singles), keeps, locked=locked), *found]
    return found, "cut short" if races.short else "raced"


def _estimated(ledger: Ledger, coalitions: Coalitions) -> Vector:
    """Values of coalitions that have been asked about, as far as the texts so far tell."""
    known, values, _ = ledger.estimates()
    by_row = {row.tobytes(): value for row, value in zip(known, values, strict=True)}
    return np.array([by_row.get(row.tobytes(), np.nan) for row in coalitions])
