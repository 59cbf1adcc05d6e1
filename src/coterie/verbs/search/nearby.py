"""What players contribute near the coalition a search has chosen, from what the search observed.

Two quantities: what one player's absence alone costs is measured; what a player is worth where so
many others are gone is learnt from the coalitions asked, and told only where it is to be believed.
"""

from dataclasses import dataclass, replace
from math import comb

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Vector, sizes
from coterie.game.designs import Stratum
from coterie.game.estimation.absences import Absences, measured_absences
from coterie.game.estimation.refits import Refits, Sample, refit
from coterie.game.estimation.semivalues import Estimate
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import neighbours
from coterie.game.surrogates import Predictor
from coterie.game.surrogates.choice import most_faithful
from coterie.game.surrogates.fidelity import LEAST_R2, Fidelity
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.process import Process
from coterie.game.utilities import Formula, perplexity_ratio
from coterie.verbs.search.result import SearchResult
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

ROWS = 250
"""Most coalitions the surrogate learns from, the best ones: it speaks of their neighbourhood.

Every single absence is learnt from beside them: it tells what the best coalitions never try.
"""

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
    remark: str | None = None
    """Why no value is told, in one sentence."""


def contributions_near(
    workspace: Workspace, found: SearchResult, progress: Progress
) -> LocalContributions | None:
    """`around` for what was found on an opened model.

    Args:
        workspace: The opened model and its texts.
        found: What was chosen, and the account of the search.
        progress: Shows what goes on.
    """
    progress.say("estimating contributions around what was chosen")
    locked, played = np.array(workspace.locked, dtype=np.intp), found.played
    seed = workspace.request.seed
    return around(found, played.documents, locked, seed=seed, formula=played.formula)


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
    A player absent from none of these has no value; nobody has where the surrogate explains less
    than half of what differs at the size chosen, or contradicts a single absence that was measured.

    Args:
        found: What was chosen, and the account of the search.
        documents: Which document each of the ledger's sequences comes from, ``(n_sequences,)``.
        locked: Players that stay; they have no contribution.
        seed: Decides folds and refits.
        formula: From mean losses to values.
    """
    sample = _learnable(found.ledger, documents, formula)
    coalitions, n_players = sample.coalitions, found.ledger.n_players
    if len(coalitions) <= n_players:
        return None
    # A stream of its own: the search's draws do not change if this is left out.
    rng = np.random.default_rng([seed, 5])
    chosen = np.array([decision.winner.coalition for decision in found.decisions])
    # Fidelity is compared where the deepest cut lies: errors grow with what is missing.
    size = int(chosen.sum(axis=1).min())
    # The prior costs most of it all, and is chosen once for every fit.
    process = Process.suited_to(coalitions, sample.targets)
    surrogate, fidelities = most_faithful(
        (process, Pairwise()), coalitions, sample.targets, size=size, rng=rng
    )
    fits = refit(sample, surrogate, replicates=REPLICATES, rng=rng)
    # The chosen coalition alone would give one number a player, with no spread.
    swaps = [neighbours(one, locked=locked) for one in chosen]
    base = np.unique(np.concatenate([chosen, *swaps]), axis=0)
    fidelity = next(one for one in fidelities if one.surrogate == surrogate.name)
    untold = np.union1d(locked, np.flatnonzero(coalitions.all(axis=0))).astype(np.intp)
    estimate = _mean_gains(fits, base, untold)
    remark = _doubt(fidelity, size) or _contradiction(estimate.values, found, documents)
    if remark is not None:
        estimate = _mean_gains(fits, base, np.arange(chosen.shape[1]))
    return LocalContributions(estimate, fidelity, REPLICATES, len(base), remark)


def absences_in(found: SearchResult, documents: Indices) -> Absences:
    """What each player's absence alone costs, as far as a search has observed it.

    Args:
        found: What was chosen, and the account of the search.
        documents: Which document each of the ledger's sequences comes from, ``(n_sequences,)``.
    """
    full = found.ledger.losses(np.ones((1, found.ledger.n_players), dtype=bool))[0]
    return measured_absences(*found.ledger.seen(), full, documents)


def _doubt(fidelity: Fidelity, size: int) -> str | None:
    """Why the surrogate is not to be believed at a size; None where it is."""
    known = fidelity.by_size.get(size)
    if known is not None and known.r2 >= LEAST_R2:
        return None
    explained = (
        "is not known to explain any"
        if known is None or np.isnan(known.r2)
        else (f"explains {max(known.r2, 0.0):.0%}")
    )
    return (
        f"Not told: of what differs between coalitions that keep {size}, the surrogate {explained}"
        f" on those held out, and {LEAST_R2:.0%} is asked for"
    )


def _contradiction(values: Vector, found: SearchResult, documents: Indices) -> str | None:
    """Whether a player that alone costs more than the whole cut would rank below one cut."""
    chosen = np.array([decision.winner.coalition for decision in found.decisions])
    chosen = chosen[found.ledger.asked(chosen)]
    # A cut chosen for what it loses once repaired may never have been asked unrepaired.
    if not len(chosen):
        return None
    full = found.ledger.losses(np.ones((1, len(values)), dtype=bool)).mean()
    worst = float(-found.ledger.value(chosen).min() - full)
    cut = ~chosen.all(axis=0)
    heavy = np.setdiff1d(absences_in(found, documents).costlier_than(worst), np.flatnonzero(cut))
    told = values[heavy][~np.isnan(values[heavy])]
    if not len(told) or np.isnan(values[cut]).all() or told.min() > np.nanmax(values[cut]):
        return None
    return (
        "Not told: the surrogate would rank a player whose absence alone costs more than the whole"
        " cut below one that was cut"
    )


def _mean_gains(fits: Refits, base: Coalitions, untold: Indices) -> Estimate:
    """Mean marginal contribution over some coalitions, according to a surrogate and its refits."""

    def of(predictor: Predictor) -> Vector:
        gains = predictor.marginals(base).mean(axis=0)
        # A player that was never absent has none that anything is known of.
        gains[untold] = np.nan
        return gains

    sampling, texts = fits.errors(of)
    estimate = Estimate(
        "mean marginal contribution in the chosen coalition and its swaps",
        of(fits.predictor),
        sampling,
        np.full(base.shape[1], REPLICATES - 1.0),
    )
    if texts is None:
        return estimate
    # Degrees of freedom: fewer documents than refits limit what an error over texts is worth.
    freedom = float(max(1, min(fits.n_documents, REPLICATES) - 1))
    return replace(estimate, error_texts=texts, freedom_texts=freedom)


def _learnable(ledger: Ledger, documents: Indices, formula: Formula) -> Sample:
    """The best coalitions and the single absences by size, with their losses and the full model's.

    A coalition that lost a race was not observed on every text. On the others it is taken to
    differ from the mean coalition as it did on those.
    """
    coalitions, losses = ledger.seen()
    seen = ~np.isnan(losses)
    enough = seen.sum(axis=1) >= min(LEAST_TEXTS, ledger.n_sequences)
    coalitions, losses, seen = coalitions[enough], losses[enough], seen[enough]
    # The mean over coalitions seen in full: what is typical of each text.
    usual = losses[seen.all(axis=1)].mean(axis=0)
    differ = np.where(seen, losses - usual, 0.0).sum(axis=1) / seen.sum(axis=1)
    losses = np.where(seen, losses, usual + differ[:, None])
    # Good coalitions only: the surface far from the choice is another one.
    best = np.argsort(losses.mean(axis=1), kind="stable")[:ROWS]
    # Single absences all the same: a layer that breaks the model is absent from no good coalition.
    alone = np.flatnonzero(sizes(coalitions) == ledger.n_players - 1)
    best = np.concatenate([best, np.setdiff1d(alone, best)])
    coalitions, losses = coalitions[best], losses[best]
    held = sizes(coalitions)
    order = np.argsort(-held, kind="stable")
    strata = []
    for size in np.unique(held)[::-1]:
        rows, whole = coalitions[held == size], comb(ledger.n_players, int(size))
        strata.append(Stratum(int(size), rows, len(rows) == whole, whole))
    full = ledger.losses(np.ones((1, ledger.n_players), dtype=bool))[0]
    return Sample(strata, losses[order], full, documents, formula)
