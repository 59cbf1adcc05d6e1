"""Contributions from evaluated coalitions, through a surrogate, with both sources of error."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from coterie.game.coalitions import Indices
from coterie.game.designs import NO_ONE, draw_strata
from coterie.game.estimation.refits import Refits, Sample, refit
from coterie.game.estimation.semivalues import Estimate, stratified_semivalue_from
from coterie.game.surrogates import Predictor, Surrogate
from coterie.game.surrogates.fidelity import Fidelity, held_out_fidelity

BASE_DRAWS = 80_000  # base coalitions of the estimate: Ding et al. 2026, arXiv:2602.07804
REPLICATES = 12  # a standard deviation of 12 is known to 1 / √22
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


@dataclass(frozen=True, eq=False)
class SemivaluePlan:
    """Over which base coalitions contributions are averaged, and how many refits give the errors.

    Attributes:
        sizes: Sizes of the base coalitions.
        locked: Players that stay.
        base_draws: Base coalitions drawn in all.
        replicates: Refits per source of error; 12 leave each error known to about 21 %.
    """

    sizes: Sequence[int]
    locked: Indices = field(default_factory=lambda: NO_ONE)
    base_draws: int = BASE_DRAWS
    replicates: int = REPLICATES


def contributions(
    sample: Sample, surrogate: Surrogate, plan: SemivaluePlan, *, rng: np.random.Generator
) -> Contributions:
    """Estimate the paper's stratified semivalue through a surrogate, each error on its own.

    Args:
        sample: Evaluated coalitions, text by text.
        surrogate: Fitted to the sample, and asked in the game's place.
        plan: Base coalitions of the estimate, and refits behind its errors.
        rng: Spawns one generator each for the refits, the folds and the base coalitions.

    Examples:
        >>> from coterie.game.designs import draw_strata
        >>> from coterie.game.surrogates.pairwise import Pairwise
        >>> from coterie.game.toy import additive
        >>> from coterie.game.utilities import log_loss
        >>> rng, game = np.random.default_rng(0), additive(np.array([0.4, 0.1, 0.3, 0.2]))
        >>> strata = draw_strata(4, (3, 2), 20, rng=rng)
        >>> losses = -game.value(np.concatenate([s.coalitions for s in strata]))[:, None]
        >>> sample = Sample(strata, losses, np.array([-1.0]), np.array([0]), log_loss)
        >>> plan = SemivaluePlan((3, 2), replicates=4)
        >>> contributions(sample, Pairwise(), plan, rng=rng).estimate.values.round(1).tolist()
        [0.4, 0.1, 0.3, 0.2]
    """
    for_refits, for_folds, for_base = rng.spawn(3)
    fits = refit(sample, surrogate, replicates=plan.replicates, rng=for_refits)
    fidelity, _ = held_out_fidelity(surrogate, fits.coalitions, fits.targets, rng=for_folds)
    estimate, n_base = _through(fits, plan, for_base)
    return Contributions(
        estimate,
        fidelity,
        fits,
        plan.replicates,
        n_base=n_base,
        n_coalitions=len(fits.coalitions),
        n_documents=fits.n_documents,
    )


def _through(fits: Refits, plan: SemivaluePlan, rng: np.random.Generator) -> tuple[Estimate, int]:
    """The estimate through a surrogate and its refits, and its number of base coalitions."""
    n_players, locked = fits.coalitions.shape[1], plan.locked
    base = draw_strata(n_players, plan.sizes, plan.base_draws, locked=locked, rng=rng)
    found = stratified_semivalue_from(fits.predictor, base, locked)
    # All refits are asked the same, fewer, bases: which they are then adds nothing to the spread.
    draws = min(plan.base_draws, REFIT_BASE_DRAWS)
    fewer = draw_strata(n_players, plan.sizes, draws, locked=locked, rng=rng)
    sampling, texts = fits.errors(lambda one: stratified_semivalue_from(one, fewer, locked).values)
    estimate = replace(
        found,
        error_sampling=sampling,
        freedom=np.full(n_players, plan.replicates - 1.0),
        error_texts=texts,
        freedom_texts=float(max(1, min(fits.n_documents, plan.replicates) - 1)),
    )
    return estimate, sum(len(stratum.coalitions) for stratum in base)
