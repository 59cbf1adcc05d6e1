"""A stand-in for the game that travels with the record, to try other cuts on screen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector, sizes
from coterie.game.search.ledger import Ledger
from coterie.game.surrogates.process import Process, ProcessPredictor, best_prior, condition
from coterie.game.utilities import clustered_mean
from coterie.report.schema.explorer import PredictorPart

if TYPE_CHECKING:
    from coterie.game.study import Study
    from coterie.verbs.search.result import SearchResult

ROWS = 250
"""Most coalitions the stand-in learns from and the record names: the best ones."""

DIGITS = 7
"""Digits of every number that is written: the prediction is made of those."""

LEAST = 3
"""Fewest coalitions of one size whose misses are taken for typical of it."""


SHARE = 0.68
"""Share of the misses that the typical one is not below, as a standard error would have it."""


@dataclass(frozen=True, eq=False)
class Observed:
    """Coalitions and their losses.

    Attributes:
        coalitions: ``(n_coalitions, n_players)``, the full model among them.
        means: Mean losses, ``(n_coalitions,)``.
        errors: What of these is not known because some texts were not read, ``(n_coalitions,)``.
        losses: Loss on every text, ``(n_coalitions, n_sequences)``; NaN where it was not read.
    """

    coalitions: Coalitions
    means: Vector
    errors: Vector
    losses: Matrix


def predictor_part(found: "SearchResult") -> PredictorPart | None:
    """A Gaussian process of the loss above the full model, from what a search has observed.

    None where the search asked fewer coalitions than there are players, or played another game
    than that of the loss on calibration texts.

    Args:
        found: What was chosen, and the account of the search.
    """
    # A mix of utilities is another game, whose values are no losses.
    if found.played.in_full:
        return None
    seen = _of_ledger(found.ledger) if found.searched is None else _of_study(found.searched.study)
    return None if seen is None else process_part(seen, found.played.documents)


def process_part(seen: Observed, documents: Indices) -> PredictorPart | None:
    """`predictor_part` for coalitions and their losses.

    Args:
        seen: What was observed.
        documents: Which document each sequence comes from, ``(n_sequences,)``.
    """
    n_players = seen.coalitions.shape[1]
    cut = n_players - sizes(seen.coalitions)
    whole = np.flatnonzero(cut == 0)
    if len(seen.coalitions) <= n_players or not len(whole):
        return None
    # The best, among them the full model, in an order that a reader can follow.
    best = np.argsort(seen.means, kind="stable")[:ROWS]
    best = np.union1d(best, whole[:1])
    rows = best[np.lexsort((seen.means[best], cut[best]))]
    targets = seen.means[rows] - seen.means[whole[0]]
    coalitions, errors = seen.coalitions[rows], seen.errors[rows]
    process = condition(best_prior(coalitions, targets, errors), coalitions, targets, errors)
    level, single, pairs = process.effects
    scale = process.scale
    paired = [_paired(seen.losses[row] - seen.losses[whole[0]], documents) for row in rows]
    return PredictorPart(
        surrogate=Process().name,
        unit="nats per token",
        full=_short(seen.means[whole[0]]),
        constant=_short(process.mean + scale * level),
        single=[_short(one) for one in scale * single],
        pairs=[_short(one) for one in scale * pairs[np.triu_indices(n_players, 1)]],
        length=process.prior.length,
        weights=[_short(one) for one in scale * process.prior.rest * process.weights],
        cuts=[np.flatnonzero(~one).tolist() for one in coalitions],
        losses=[loss for loss, _ in paired],
        errors=[error for _, error in paired],
        deviations=[_short(one) for one in _deviations(process, cut[rows], n_players)],
        deepest=int(cut[rows].max()),
    )


def _of_ledger(ledger: Ledger) -> Observed:
    coalitions, means, errors = ledger.estimates()
    every, losses = ledger.seen()
    row_of = {row.tobytes(): number for number, row in enumerate(every)}
    rows = [row_of[row.tobytes()] for row in coalitions]
    return Observed(coalitions, -means, errors, losses[rows])


def _of_study(study: "Study") -> Observed | None:
    # Only losses that are all finite: the floor that a study reads is not told here.
    losses = np.concatenate([study.full.nll, study.table.nll])
    asked = study.asked[: len(losses)]
    finite = np.isfinite(losses).all(axis=1)
    if not finite[0]:
        return None
    losses, asked = losses[finite], asked[finite]
    _, first = np.unique(asked, axis=0, return_index=True)
    first.sort()
    losses = losses[first]
    return Observed(asked[first], losses.mean(axis=1), np.zeros(len(first)), losses)


def _paired(differences: Vector, documents: Indices) -> tuple[float | None, float | None]:
    """The loss above the full model with its error over documents; None where texts are missing."""
    if not np.isfinite(differences).all():
        return None, None
    mean, error = clustered_mean(differences, documents)
    return _short(mean), None if error is None else _short(error)


def _deviations(process: ProcessPredictor, cut: Indices, n_players: int) -> Vector:
    """What two of three misses stay below when one coalition is left out, by players cut."""
    # Rasmussen and Williams 2006, equations 5.10 to 5.12: no refit is needed.
    half = linalg.solve_triangular(process.factor, np.eye(len(cut)), lower=True)
    misses = np.abs(process.scale * process.weights / (half**2).sum(axis=0))
    counts = np.bincount(cut, minlength=n_players + 1)
    enough = np.flatnonzero(counts >= LEAST)
    if not len(enough):
        return np.full(n_players + 1, np.quantile(misses, SHARE))
    own = np.array([np.quantile(misses[cut == size], SHARE) for size in enough])
    # A size without enough of its own takes those of the next deeper one, the deepest the worst.
    place = np.searchsorted(enough, np.arange(n_players + 1))
    return np.where(place < len(enough), own[np.minimum(place, len(enough) - 1)], own.max())


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
