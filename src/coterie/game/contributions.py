"""Contributions from evaluated coalitions, through a surrogate, with both sources of error.

Two things could have come out otherwise: which coalitions were drawn, and which documents were
read. Each is resampled on its own and the surrogate fitted anew every time; the spread of the
contributions over the refits is the standard error.

Documents are resampled with replacement. Coalitions are subsampled without (Shao and Wu 1989,
doi:10.1214/aos/1176347263): repeats would rob a surrogate of a third of its distinct coalitions and
overstate its error several times. Where coalitions barely outnumber a surrogate's coefficients the
error is still overstated; it is true where they are several times as many. What neither error tells
is how far the surrogate is from the game itself: that is the held-out fidelity, beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from coterie.game.coalitions import Indices, Matrix, Vector
from coterie.game.designs import NO_ONE, Stratum, draw_strata
from coterie.game.semivalues import Estimate, stratified_semivalue_from
from coterie.game.surrogates import Predictor, Surrogate
from coterie.game.surrogates.fidelity import Fidelity, held_out_fidelity
from coterie.game.utilities import Formula

BASE_DRAWS = 80_000  # base coalitions of the estimate: Ding et al. 2026, arXiv:2602.07804
LEFT_OUT = 0.25  # coalitions left out of a refit, relative to those kept, where few are known
REFIT_BASE_DRAWS = 4_000  # the same for all refits, so that their differences do not feel them


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each player contributes according to a surrogate, and how far to trust it."""

    estimate: Estimate
    fidelity: Fidelity
    predictor: Predictor
    """The surrogate fitted to all coalitions and all documents."""
    replicates: int
    """Refits behind each of the two errors; a third as many tell what the random start adds."""
    n_base: int
    """Distinct base coalitions of the estimate."""
    n_coalitions: int
    n_documents: int


def contributions(
    strata: Sequence[Stratum],
    table: Matrix,
    full: Vector,
    documents: Indices,
    formula: Formula,
    *,
    surrogate: Surrogate,
    sizes: Sequence[int],
    locked: Indices = NO_ONE,
    base_draws: int = BASE_DRAWS,
    replicates: int = 24,
    rng: np.random.Generator,
) -> Contributions:
    """Estimate the paper's stratified semivalue through a surrogate, each error on its own.

    Args:
        table: Observed means per sequence, finite, ``(n_coalitions, n_sequences)``; rows in the
            order of the concatenated strata.
        full: The same for the full model, ``(n_sequences,)``.
        documents: Which document each sequence comes from, ``(n_sequences,)``.
        formula: Turns mean observations into values; see `coterie.game.utilities`.
        sizes: Sizes of the base coalitions of the estimate.
        replicates: Refits per source of error; 24 leave each error known to about 15 %.
    """
    coalitions = np.concatenate([stratum.coalitions for stratum in strata])
    if len(table) != len(coalitions):
        raise ValueError(f"{len(table)} rows of observations for {len(coalitions)} coalitions")
    n_players = coalitions.shape[1]
    targets = formula(table.mean(axis=1), full.mean(keepdims=True))
    for_fit, for_folds, for_base, for_draws, for_texts = rng.spawn(5)

    predictor = surrogate.fit(coalitions, targets, rng=for_fit)
    fidelity, _ = held_out_fidelity(surrogate, coalitions, targets, rng=for_folds)
    base = draw_strata(n_players, sizes, base_draws, locked=locked, rng=for_base)
    found = stratified_semivalue_from(predictor, base, locked)

    fewer = draw_strata(
        n_players, sizes, min(base_draws, REFIT_BASE_DRAWS), locked=locked, rng=for_base
    )

    def spread(values: Matrix, rows: Sequence[Indices], rngs: list[np.random.Generator]) -> Vector:
        refitted = surrogate.refit(coalitions, values, rows, rngs=rngs)
        found = [stratified_semivalue_from(one, fewer, locked).values for one in refitted]
        return np.std(found, axis=0, ddof=1)

    repeated = np.tile(targets, (replicates, 1))
    everything = [np.arange(len(coalitions))] * replicates
    rows = [_subsample(strata, rng=for_draws) for _ in range(replicates)]
    drawn = spread(repeated, rows, _alike(replicates, for_draws)) / np.sqrt(LEFT_OUT)
    few = slice(max(2, replicates // 3))
    started = spread(repeated[few], everything[few], for_draws.spawn(len(everything[few])))
    sampling = np.hypot(drawn, started)
    texts, n_documents = _by_texts(table, full, documents, formula, replicates, for_texts)
    error_texts = None
    if texts is not None:
        again = spread(texts, everything, _alike(replicates, for_texts))
        error_texts = again * np.sqrt(n_documents / (n_documents - 1))
    estimate = replace(
        found,
        error_sampling=sampling,
        freedom=np.full(n_players, replicates - 1.0),
        error_texts=error_texts,
        freedom_texts=float(max(1, min(n_documents, replicates) - 1)),
    )
    n_base = sum(len(stratum.coalitions) for stratum in base)
    return Contributions(
        estimate, fidelity, predictor, replicates, n_base, len(coalitions), n_documents
    )


def _subsample(strata: Sequence[Stratum], rng: np.random.Generator) -> Indices:
    """Rows of one refit: most of each stratum, and all of one that is complete.

    Leaving out a share (1 − f) spreads an estimate by (1 − f) / f of its own variance; that is set
    to ``LEFT_OUT`` times the finite-population correction, so the spread is told in one factor.
    """
    rows, start = [], 0
    for stratum in strata:
        n = len(stratum.coalitions)
        kept = round(n / (1 + LEFT_OUT * (1 - n / stratum.population)))
        rows.append(start + rng.permutation(n)[:kept])
        start += n
    return np.concatenate(rows)


def _alike(n: int, rng: np.random.Generator) -> list[np.random.Generator]:
    """Generators in one and the same state, so that refits differ by their data alone."""
    seed = int(rng.integers(2**63))
    return [np.random.default_rng(seed) for _ in range(n)]


def _by_texts(
    table: Matrix,
    full: Vector,
    documents: Indices,
    formula: Formula,
    replicates: int,
    rng: np.random.Generator,
) -> tuple[Matrix | None, int]:
    """Values under resampled documents, ``(replicates, n_coalitions)``; None of a single one."""
    names, which = np.unique(documents, return_inverse=True)
    n_documents = len(names)
    if n_documents < 2:
        return None, n_documents
    times = rng.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=replicates)
    weights = times[:, which].astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    return formula(weights @ table.T, weights @ full[:, None]), n_documents
