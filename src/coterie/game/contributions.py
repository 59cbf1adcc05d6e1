"""Contributions from evaluated coalitions, through a surrogate, with both sources of error.

Two things could have come out otherwise: which coalitions were drawn, and which documents were
read. Each is resampled on its own and the surrogate fitted anew every time; the spread of the
contributions over the refits is the standard error. What neither tells is how far the surrogate is
from the game itself: that is the held-out fidelity, beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from coterie.errors import CutError
from coterie.game.coalitions import Indices, Matrix, Vector
from coterie.game.designs import NO_ONE, Stratum, draw_strata
from coterie.game.semivalues import Estimate, stratified_semivalue_from
from coterie.game.surrogates import Predictor, Surrogate
from coterie.game.surrogates.fidelity import Fidelity, held_out_fidelity
from coterie.game.utilities import Formula

BASE_DRAWS = 80_000  # base coalitions of the estimate: Ding et al. 2026, arXiv:2602.07804
REFIT_BASE_DRAWS = 4_000  # the same for all refits, so that their differences do not feel them


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each player contributes according to a surrogate, and how far to trust it."""

    estimate: Estimate
    fidelity: Fidelity
    predictor: Predictor
    """The surrogate fitted to all coalitions and all documents."""
    replicates: int
    """Refits behind each of the two errors."""
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
        raise CutError(f"{len(table)} rows of observations for {len(coalitions)} coalitions")
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

    def spread(refitted: Sequence[Predictor]) -> Vector:
        values = [stratified_semivalue_from(one, fewer, locked).values for one in refitted]
        return np.std(values, axis=0, ddof=1)

    rows = [_resampled(strata, rng=for_draws) for _ in range(replicates)]
    repeated = np.tile(targets, (replicates, 1))
    sampling = spread(surrogate.refit(coalitions, repeated, rows, rngs=for_draws.spawn(replicates)))
    texts, n_documents = _by_texts(table, full, documents, formula, replicates, for_texts)
    error_texts = None
    if texts is not None:
        everything = [np.arange(len(coalitions))] * replicates
        seed = int(for_texts.integers(2**63))  # one seed for all: only the texts differ
        rngs = [np.random.default_rng(seed) for _ in range(replicates)]
        again = spread(surrogate.refit(coalitions, texts, everything, rngs=rngs))
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


def _resampled(strata: Sequence[Stratum], rng: np.random.Generator) -> Indices:
    """Rows of a bootstrap over coalitions: within each stratum, unless it is complete."""
    rows, start = [], 0
    for stratum in strata:
        n = len(stratum.coalitions)
        chosen = np.arange(n) if stratum.complete else rng.integers(n, size=n)
        rows.append(start + chosen)
        start += n
    return np.concatenate(rows)


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
