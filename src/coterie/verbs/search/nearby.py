"""What players contribute near the coalition a search has chosen, from what the search observed."""

from dataclasses import dataclass, replace
from math import comb

import numpy as np

from coterie.game.coalitions import Indices, Vector, sizes
from coterie.game.designs import Stratum
from coterie.game.estimation.refits import refit
from coterie.game.estimation.semivalues import Estimate
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import neighbours
from coterie.game.surrogates import Predictor
from coterie.game.surrogates.choice import most_faithful
from coterie.game.surrogates.fidelity import Fidelity
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.process import Process
from coterie.game.utilities import Formula, perplexity_ratio
from coterie.verbs.search.choose import SearchResult
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

ROWS = 250
"""Most coalitions the surrogate learns from, the best ones: it speaks of their neighbourhood."""

LEAST_TEXTS = 4
"""Fewest texts a coalition was observed on to be learnt from."""

REPLICATES = 16


@dataclass(frozen=True, eq=False)
class LocalContributions:
    """Contributions near a chosen coalition, and the surrogate they were read from."""

    estimate: Estimate
    fidelity: Fidelity
    replicates: int
    n_base: int


def contributions_near(
    workspace: Workspace, found: SearchResult, progress: Progress
) -> LocalContributions | None:
    """`around` for what was found on an opened model."""
    progress.say("estimating contributions around what was chosen")
    locked = np.array(workspace.locked, dtype=np.intp)
    return around(found, workspace.calibration.texts.documents, locked, seed=workspace.request.seed)


def around(
    found: SearchResult,
    documents: Indices,
    locked: Indices,
    *,
    seed: int,
    formula: Formula = perplexity_ratio,
) -> LocalContributions | None:
    """Mean marginal contribution in the chosen coalitions and all their swaps, by a surrogate.

    The surrogate, a Gaussian process or pairwise ridge by held-out fidelity, is fitted to the
    search's own coalitions, which were not drawn at random: the error by sampling says how much
    depends on which of them were asked. None where the search asked fewer than there are players.

    Args:
        formula: From mean losses to values.
    """
    strata, workspace, full = _learnable(found.ledger)
    coalitions = np.concatenate([stratum.coalitions for stratum in strata])
    n_players = found.ledger.n_players
    if len(coalitions) <= n_players:
        return None
    rng = np.random.default_rng([seed, 5])
    targets = formula(workspace.mean(axis=1), full.mean(keepdims=True))
    chosen = np.array([decision.winner.coalition for decision in found.decisions])
    size = int(chosen.sum(axis=1).min())
    surrogate, fidelities = most_faithful(
        (Process(), Pairwise()), coalitions, targets, size=size, rng=rng
    )
    fits = refit(
        strata,
        workspace,
        full,
        documents,
        formula,
        surrogate=surrogate,
        replicates=REPLICATES,
        rng=rng,
    )
    base = np.unique(
        np.concatenate([chosen, *(neighbours(one, locked=locked) for one in chosen)]), axis=0
    )

    def of(predictor: Predictor) -> Vector:
        gains = predictor.marginals(base).mean(axis=0)
        gains[locked] = np.nan
        return gains

    sampling, texts = fits.errors(of)
    estimate = Estimate(
        "mean marginal contribution in the chosen coalition and its swaps",
        of(fits.predictor),
        sampling,
        np.full(n_players, REPLICATES - 1.0),
    )
    if texts is not None:
        freedom = float(max(1, min(fits.n_documents, REPLICATES) - 1))
        estimate = replace(estimate, error_texts=texts, freedom_texts=freedom)
    fidelity = next(one for one in fidelities if one.surrogate == surrogate.name)
    return LocalContributions(estimate, fidelity, REPLICATES, len(base))


def _learnable(ledger: Ledger) -> tuple[list[Stratum], np.ndarray, Vector]:
    """The best coalitions by size, their losses, and the full model's losses.

    A coalition that lost a race was not observed on every text. On the others it is taken to
    differ from the mean coalition as it did on those.
    """
    coalitions, losses = ledger.seen()
    seen = ~np.isnan(losses)
    told = seen.sum(axis=1) >= min(LEAST_TEXTS, ledger.n_sequences)
    coalitions, losses, seen = coalitions[told], losses[told], seen[told]
    usual = losses[seen.all(axis=1)].mean(axis=0)
    differ = np.where(seen, losses - usual, 0.0).sum(axis=1) / seen.sum(axis=1)
    losses = np.where(seen, losses, usual + differ[:, None])
    best = np.argsort(losses.mean(axis=1), kind="stable")[:ROWS]
    coalitions, losses = coalitions[best], losses[best]
    held = sizes(coalitions)
    order = np.argsort(-held, kind="stable")
    strata = []
    for size in np.unique(held)[::-1]:
        rows, whole = coalitions[held == size], comb(ledger.n_players, int(size))
        strata.append(Stratum(int(size), rows, len(rows) == whole, whole))
    full = ledger.losses(np.ones((1, ledger.n_players), dtype=bool))[0]
    return strata, losses[order], full
