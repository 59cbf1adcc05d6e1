"""A surrogate fitted again and again: what else could have come out, and how much it matters.

Two things could have come out otherwise: which coalitions were drawn, and which documents were
read. Each is resampled on its own and the surrogate fitted again every time; the spread of the
contributions over the refits is the standard error.

Documents are resampled with replacement. Coalitions are subsampled without (Shao and Wu 1989,
doi:10.1214/aos/1176347263): repeats would rob a surrogate of a third of its distinct coalitions and
overstate its error several times. Where coalitions barely outnumber a surrogate's coefficients the
error is still overstated; it is true where they are several times as many. What neither error says
is how far the surrogate is from the game itself: that is the held-out fidelity, beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector
from coterie.game.designs import Stratum
from coterie.game.surrogates import Predictor, Surrogate
from coterie.game.utilities import Formula

LEFT_OUT = 0.25  # coalitions left out of a refit, relative to those kept, where few are known

Quantity = Callable[[Predictor], NDArray[np.float64]]
"""Anything derived from a fitted surrogate: contributions, interactions."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Evaluated coalitions, text by text: what a surrogate is fitted to.

    Attributes:
        strata: What was drawn.
        table: Observed means per sequence, finite, ``(n_coalitions, n_sequences)``; rows in the
            order of the concatenated strata.
        full: The same for the full model, ``(n_sequences,)``.
        documents: Which document each sequence comes from, ``(n_sequences,)``.
        formula: Turns mean observations into values; see `coterie.game.utilities`.
    """

    strata: Sequence[Stratum]
    table: Matrix
    full: Vector
    documents: Indices
    formula: Formula

    def __post_init__(self) -> None:
        """Refuse observations of another design."""
        if len(self.table) != len(self.coalitions):
            raise ValueError(
                f"{len(self.table)} rows of observations for {len(self.coalitions)} coalitions"
            )

    @property
    def coalitions(self) -> Coalitions:
        """All coalitions, stratum by stratum."""
        return np.concatenate([stratum.coalitions for stratum in self.strata])

    @property
    def targets(self) -> Vector:
        """Their values over all documents, ``(n_coalitions,)``."""
        return self.formula(self.table.mean(axis=1), self.full.mean(keepdims=True))


@dataclass(frozen=True, eq=False)
class Refits:
    """One surrogate fitted to everything, and its refits by source of error."""

    coalitions: Coalitions
    targets: Vector
    """Values of the coalitions over all documents."""
    predictor: Predictor
    """Fitted to all of them."""
    drawn: Sequence[Predictor]
    """Fitted to subsamples of the coalitions, all from one random start."""
    started: Sequence[Predictor]
    """Fitted to everything from other random starts."""
    texts: Sequence[Predictor] | None
    """Fitted to values over resampled documents, from one start; None of a single document."""
    n_documents: int

    def errors(self, of: Quantity) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Standard errors of a derived quantity: by coalitions drawn, and by texts read."""

        # One standard deviation over refits, by whatever quantity is read from them.
        def spread(predictors: Sequence[Predictor]) -> NDArray[np.float64]:
            return np.std([of(predictor) for predictor in predictors], axis=0, ddof=1)

        # LEFT_OUT scales subsamples to full draws (Shao and Wu 1989); the random start adds to it.
        sampling = np.hypot(spread(self.drawn) / np.sqrt(LEFT_OUT), spread(self.started))
        if self.texts is None:
            return sampling, None
        few = self.n_documents / (self.n_documents - 1)  # a bootstrap of few documents is narrow
        return sampling, spread(self.texts) * np.sqrt(few)


def refit(
    sample: Sample, surrogate: Surrogate, *, replicates: int, rng: np.random.Generator
) -> Refits:
    """Fit once to everything, and ``replicates`` times for each source of error.

    Args:
        sample: Evaluated coalitions, text by text.
        surrogate: What is fitted.
        replicates: Refits per source; a third as many say what the random start adds.
        rng: Spawns one generator for the fit, one for each source of error.
    """
    coalitions, targets = sample.coalitions, sample.targets
    # A generator for each source: leaving one out does not change the others.
    for_fit, for_draws, for_texts = rng.spawn(3)
    repeated = np.tile(targets, (replicates, 1))
    everything = [np.arange(len(coalitions))] * replicates
    rows = [_subsample(sample.strata, rng=for_draws) for _ in range(replicates)]
    few = slice(max(2, replicates // 3))
    values = _by_texts(sample, replicates, for_texts)
    again = _alike(replicates, for_texts)
    # The order of these four fits decides which random numbers each of them draws.
    return Refits(
        coalitions,
        targets,
        predictor=surrogate.fit(coalitions, targets, rng=for_fit),
        drawn=surrogate.refit(coalitions, repeated, rows, rngs=_alike(replicates, for_draws)),
        started=surrogate.refit(
            coalitions, repeated[few], everything[few], rngs=for_draws.spawn(few.stop)
        ),
        texts=(
            None if values is None else surrogate.refit(coalitions, values, everything, rngs=again)
        ),
        n_documents=len(np.unique(sample.documents)),
    )


def _subsample(strata: Sequence[Stratum], rng: np.random.Generator) -> Indices:
    """Rows of one refit: most of each stratum, and all of one that is complete.

    Leaving out a share (1 − f) spreads an estimate by (1 − f) / f of its own variance; that is set
    to ``LEFT_OUT`` times the finite-population correction, so one
    factor turns the spread into the error.
    """
    rows, start = [], 0
    for stratum in strata:
        n = len(stratum.coalitions)
        # A complete stratum is kept whole: it could not have been drawn otherwise.
        kept = round(n / (1 + LEFT_OUT * (1 - n / stratum.population)))
        rows.append(start + rng.permutation(n)[:kept])
        start += n
    return np.concatenate(rows)


def _alike(n: int, rng: np.random.Generator) -> list[np.random.Generator]:
    """Generators in one and the same state, so that refits differ by their data alone."""
    seed = int(rng.integers(2**63))
    return [np.random.default_rng(seed) for _ in range(n)]


def _by_texts(sample: Sample, replicates: int, rng: np.random.Generator) -> Matrix | None:
    """Values under resampled documents, ``(replicates, n_coalitions)``; None of a single one."""
    names, which = np.unique(sample.documents, return_inverse=True)
    n_documents = len(names)
    if n_documents < 2:
        return None
    # Bootstrap counts by document: all sequences of one stand or fall together.
    times = rng.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=replicates)
    weights = times[:, which].astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    return sample.formula(weights @ sample.table.T, weights @ sample.full[:, None])
