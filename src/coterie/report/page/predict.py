"""What a record's predictor says of a cut; the page's script computes the same."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coterie.report.schema.explorer import PredictorPart


@dataclass(frozen=True)
class Prediction:
    """The loss of a cut above the full model, nats per token.

    Attributes:
        loss: As measured where the cut was observed on every text, otherwise as predicted.
        error: Standard error where it is measured, the typical miss where it is predicted.
        measured: Which of the two.
        guessed: More is cut than in anything that was observed.
    """

    loss: float
    error: float | None
    measured: bool
    guessed: bool


def predicted(part: PredictorPart, cut: Iterable[int]) -> float:
    """The predicted loss of a cut above the full model, nats per token.

    Args:
        part: The predictor.
        cut: Numbers of the players that are cut.
    """
    gone, n_players = sorted(cut), len(part.single)
    total = part.constant + sum(part.single[player] for player in gone)
    for place, first in enumerate(gone):
        for second in gone[place + 1 :]:
            total += part.pairs[pair_index(first, second, n_players)]
    return total + resemblance(part, mask_of(gone), [mask_of(one) for one in part.cuts])


def prediction(part: PredictorPart, cut: Iterable[int]) -> Prediction:
    """What is known of a cut: measured if it was observed, otherwise predicted.

    Args:
        part: The predictor.
        cut: Numbers of the players that are cut.
    """
    gone = sorted(cut)
    if gone in part.cuts:
        place = part.cuts.index(gone)
        if (loss := part.losses[place]) is not None:
            return Prediction(loss, part.errors[place], measured=True, guessed=False)
    deviation, guessed = part.deviations[len(gone)], len(gone) > part.deepest
    return Prediction(predicted(part, gone), deviation, measured=False, guessed=guessed)


def outline(part: PredictorPart, locked: Iterable[int]) -> list[tuple[list[int], float]]:
    """Cuts of one player more each, by what is predicted to cost least, down to what was observed.

    Args:
        part: The predictor.
        locked: Players that stay.
    """
    n_players, seen = len(part.single), [mask_of(one) for one in part.cuts]
    free, gone = set(range(n_players)) - set(locked), list[int]()
    # The effect of one player more, given those that are gone already, is added up as they go.
    effects, total, mask = list(part.single), part.constant, 0
    path: list[tuple[list[int], float]] = []
    while free and len(gone) < part.deepest:
        worth = {
            one: total + effects[one] + resemblance(part, mask | 1 << one, seen) for one in free
        }
        best = min(worth, key=lambda one: (worth[one], one))
        total, mask = total + effects[best], mask | 1 << best
        gone.append(best)
        free.remove(best)
        for other in free:
            effects[other] += part.pairs[pair_index(min(best, other), max(best, other), n_players)]
        path.append((sorted(gone), worth[best]))
    return path


def pair_index(first: int, second: int, n_players: int) -> int:
    """The place of a pair among all pairs, row by row above the diagonal.

    Args:
        first: The lower number.
        second: The higher number.
        n_players: How many players there are.
    """
    return first * (2 * n_players - first - 1) // 2 + second - first - 1


def mask_of(players: Iterable[int]) -> int:
    """Players as the bits of a number."""
    return sum(1 << player for player in players)


def resemblance(part: PredictorPart, mask: int, seen: Sequence[int]) -> float:
    """What neither single cuts nor pairs explain, by likeness to what was observed.

    Args:
        part: The predictor.
        mask: The cut, as bits.
        seen: The cuts that were observed, as bits.
    """
    return math.fsum(
        weight * math.exp(-(mask ^ one).bit_count() / part.length)
        for weight, one in zip(part.weights, seen, strict=True)
    )
