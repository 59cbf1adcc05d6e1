"""Contributions from evaluated coalitions, through a surrogate, with both sources of error."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from coterie.game.coalitions import Indices, Matrix, Vector
from coterie.game.designs import NO_ONE, Stratum, draw_strata
from coterie.game.estimation.refits import Refits, refit
from coterie.game.estimation.semivalues import Estimate, stratified_semivalue_from
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
    fits: Refits
    """The surrogate fitted to everything, and refitted by source of error."""
    replicates: int
    """Refits behind each of the two errors; a third as many tell what the random start adds."""
    n_base: int
    """Distinct base coalitions of the estimate."""
    n_coalitions: int
    n_documents: int

    @property
    def predictor(self) -> Predictor:
        """The surrogate fitted to all coalitions and all documents."""
        return self.fits.predictor


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
    for_refits, for_folds, for_base = rng.spawn(3)
    fits = refit(
        strata, table, full, documents, formula,
        surrogate=surrogate, replicates=replicates, rng=for_refits,
    )  # fmt: skip
    n_players = fits.coalitions.shape[1]
    fidelity, _ = held_out_fidelity(surrogate, fits.coalitions, fits.targets, rng=for_folds)
    base = draw_strata(n_players, sizes, base_draws, locked=locked, rng=for_base)
    found = stratified_semivalue_from(fits.predictor, base, locked)
    fewer = draw_strata(
        n_players, sizes, min(base_draws, REFIT_BASE_DRAWS), locked=locked, rng=for_base
    )
    sampling, texts = fits.errors(lambda one: stratified_semivalue_from(one, fewer, locked).values)
    estimate = replace(
        found,
        error_sampling=sampling,
        freedom=np.full(n_players, replicates - 1.0),
        error_texts=texts,
        freedom_texts=float(max(1, min(fits.n_documents, replicates) - 1)),
    )
    n_base = sum(len(stratum.coalitions) for stratum in base)
    n_coalitions = len(fits.coalitions)
    return Contributions(
        estimate, fidelity, fits, replicates, n_base, n_coalitions, fits.n_documents
    )
