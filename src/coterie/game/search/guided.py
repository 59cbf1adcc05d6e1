"""Guided search: a Gaussian process learns the game while it is played, and says where to look.

Round by round the process is conditioned on every coalition observed so far, at every size; drawing
from its posterior and climbing by swaps proposes candidates; those expected to improve most on the
best known of their size (Jones et al. 1998, doi:10.1023/A:1008306431147) are observed truly. Plain
answers are observed first, greedy's among them as greedy alone finds it, so the search never ends
below them on the texts it saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from scipy.special import ndtr

from coterie.game.coalitions import Coalitions, Indices, Vector, distinct, sizes
from coterie.game.designs import NO_ONE, all_of_size, check_size, draw_distinct
from coterie.game.search.baselines import Descent, GuidedSettings, check_reach, plain_answers
from coterie.game.search.climb import climb
from coterie.game.search.decide import close_to_best
from coterie.game.search.learner import Learner, Scale
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer, cut_lowest, neighbours
from coterie.game.search.race import Judge, in_full
from coterie.game.surrogates.process import ProcessPredictor

POOL = 2_500  # a size with no more coalitions than this is looked at whole
DRAWS = 12  # posterior draws that propose, per size and round
CENTRES = 3  # of their optima, how many have their swaps looked at too
PROMISING = 100  # of the candidates of a size, how many the process is asked to doubt
WORTH_ASKING = 1e-5  # nats per token of improvement, expected or true
BATCH = 8  # coalitions observed per round, shared between the sizes; at least two for each,
GROWTH = 1 / 20  # and at least this share of all that is known
HOPELESS = 6  # rounds in a row that expected less before the search rests in any case


@dataclass(frozen=True, eq=False)
class Guided:
    """What guided search found: an answer per size, and what it was up against."""

    answers: list[Answer]
    """The best observed coalition of each size, in the order asked for."""
    finalists: list[Answer]
    """Guided's own, those too close to it to tell, greedy, one-shot, contiguous and ranked."""
    descent: Descent
    predictor: ProcessPredictor
    """The process at the end; it speaks in levels, see `Scale`."""
    expected_gain: Vector
    """Expected improvement of the most promising coalition left, per size, nats per token."""
    n_asked: int
    """Distinct coalitions in the ledger at the end."""

    @property
    def remark(self) -> str | None:
        """What the allowance was too low for, in one sentence; None where it sufficed."""
        if self.descent != "cut short":
            return None
        return (
            "the limit was too low for greedy's steps to be decided on all texts: some were decided"
            " on part of them, and --method greedy may find a better coalition"
        )


def guided(
    ledger: Ledger,
    keeps: Sequence[int],
    settings: GuidedSettings,
    *,
    locked: Indices = NO_ONE,
    judge: Judge = in_full,
    rng: np.random.Generator,
) -> Guided:
    """Find the best coalition of each size, sharing everything learnt between the sizes.

    Args:
        ledger: Asks the game and remembers; what it holds already is used.
        keeps: Sizes to find the best coalition of.
        settings: How much may be asked.
        locked: Players that stay.
        judge: How candidates are compared, with each other and with the best known of their size.
        rng: Draws from the posterior, and starts of climbs.

    Raises:
        CutError: A size is impossible, or the plain answers take more than budget or allowance.
    """
    # Act one: what is impossible is refused before anything is asked.
    for keep in keeps:
        check_size(ledger.n_players, keep, locked)
    check_reach(ledger, keeps, settings, len(locked))
    # Act two: plain answers, which the search can only improve on.
    plain, descent = plain_answers(ledger, keeps, settings, locked, judge)
    model, gains = _rounds(ledger, keeps, settings, locked=locked, judge=judge, rng=rng)
    # Act three: what the process itself would cut, and the close rivals of the best.
    ranked = _ranked(model, ledger, keeps, locked)
    own = [answer for keep in keeps for answer in close_to_best(ledger, keep, most=1)]
    near = [a for keep in keeps for a in close_to_best(ledger, keep, most=settings.close)[1:]]
    finalists = [*own, *near, *plain, *ranked]
    return Guided(
        own,
        finalists,
        descent,
        predictor=model,
        expected_gain=gains,
        n_asked=ledger.n_asked,
    )


def _rounds(
    ledger: Ledger,
    keeps: Sequence[int],
    settings: GuidedSettings,
    locked: Indices,
    judge: Judge,
    rng: np.random.Generator,
) -> tuple[ProcessPredictor, Vector]:
    """Propose, observe and learn until budget or hope ends; the process and the gains left."""
    learner, quiet, hopeless = Learner(ledger, rng=rng), 0, 0
    while True:
        model = learner.learn()
        batch, gains = _proposals(model, learner.scale, ledger, keeps, locked=locked, rng=rng)
        # The ranked answers are asked at the end: one of every size is set aside.
        left = settings.budget - ledger.n_asked - len(keeps)
        spare = settings.aim - ledger.layer_sequences
        # Whole rounds only: a round may not end above the limit.
        spare = min(spare, settings.most_executed - ledger.layers_executed)
        left = int(min(left, spare // (ledger.n_sequences * max(keeps)) - len(keeps)))
        if left <= 0 or not len(batch) or quiet == settings.patience or hopeless == HOPELESS:
            return model, gains
        before = _bests(ledger, keeps)
        _observe(ledger, batch[:left], judge)
        improved = (_bests(ledger, keeps) - before).max() > WORTH_ASKING
        quiet = 0 if improved else quiet + 1
        hopeless = hopeless + 1 if gains.max() < WORTH_ASKING else 0


def _bests(ledger: Ledger, keeps: Sequence[int]) -> Vector:
    """The best value known of each size."""
    return np.array([ledger.best(keep)[1] for keep in keeps])


def front_sizes(n_players: int, *, locked: Indices = NO_ONE) -> range:
    """The sizes of a front: every cut from one player to half of them, locks allowing."""
    return range(n_players - 1, max(n_players - n_players // 2, len(locked)) - 1, -1)


def _observe(ledger: Ledger, batch: Coalitions, judge: Judge) -> None:
    """Let the candidates of each size compete with the best known of it."""
    held = sizes(batch)
    for size in np.unique(held):
        judge(ledger, np.concatenate([ledger.best(size)[0][None], batch[held == size]]))


def _proposals(
    model: ProcessPredictor,
    scale: Scale,
    ledger: Ledger,
    keeps: Sequence[int],
    locked: Indices,
    rng: np.random.Generator,
) -> tuple[Coalitions, Vector]:
    """The coalitions worth observing next, most promising first, and the best gain per size."""
    chosen, expected, most = [], [], np.zeros(len(keeps))
    each = max(2, int(max(BATCH, GROWTH * ledger.n_asked) / len(keeps)))
    known = [ledger.best(keep) for keep in keeps]
    pools = _pools(model, np.array([coalition for coalition, _ in known]), locked, rng)
    for k, (pool, (_, value)) in enumerate(zip(pools, known, strict=True)):
        pool = pool[~ledger.met(pool)]  # what lost a race is not proposed again
        if not len(pool):
            continue
        batch, gain = promising(model, scale, pool, value, each)
        most[k] = gain[0]
        chosen.append(batch)
        expected.append(gain)
    if not chosen:
        return np.zeros((0, ledger.n_players), dtype=bool), most
    batch = np.concatenate(chosen)
    return batch[np.argsort(-np.concatenate(expected), kind="stable")], most


def promising(
    model: ProcessPredictor, scale: Scale, pool: Coalitions, value: float, most: int
) -> tuple[Coalitions, Vector]:
    """The candidates that are expected to improve most on a value, and by how much, best first.

    Args:
        model: The process; it speaks in levels.
        scale: From values to levels.
        pool: Candidates, ``(n_coalitions, n_players)``, one at least.
        value: The best value known.
        most: How many at most.
    """
    means = model.predict(pool)
    # Doubt costs most: asked only where the mean is not hopeless.
    top = np.argsort(-means, kind="stable")[:PROMISING]
    best = float(scale.level(value))
    gain = expected_improvement(means[top], model.deviation(pool[top]), best)
    gain /= scale.slope(value)  # back to nats
    order = np.argsort(-gain)[:most]
    return pool[top[order]], gain[order]


def _pools(
    model: ProcessPredictor, incumbents: Coalitions, locked: Indices, rng: np.random.Generator
) -> list[Coalitions]:
    """Candidates of each incumbent's size: all, or its swaps and the optima of posterior draws."""
    n_players, keeps = incumbents.shape[1], sizes(incumbents)
    whole = [comb(n_players - len(locked), keep - len(locked)) <= POOL for keep in keeps]
    large = np.flatnonzero(~np.array(whole))
    # The draws and climbs of all sizes are made at once: a swap never leaves its size.
    tops = _optima(model, incumbents[large], locked, rng)
    pools = []
    for k, keep in enumerate(keeps):
        if whole[k]:
            pools.append(all_of_size(n_players, int(keep), locked=locked))
            continue
        own = tops[sizes(tops) == keep]
        centres = [incumbents[k], *own[np.argsort(-model.predict(own))[:CENTRES]]]
        pool = np.concatenate([own, *(neighbours(centre, locked=locked) for centre in centres)])
        pools.append(pool[distinct(pool)[0]])
    return pools


def _optima(
    model: ProcessPredictor, incumbents: Coalitions, locked: Indices, rng: np.random.Generator
) -> Coalitions:
    """Tops of posterior draws, climbed to from each incumbent and from a random coalition."""
    if not len(incumbents):
        return incumbents
    single, pairs = model.pairwise_samples(DRAWS * len(incumbents), rng=rng)
    fresh = [
        draw_distinct(len(one), int(one.sum()), DRAWS, locked=locked, rng=rng).coalitions
        for one in incumbents
    ]
    starts = np.concatenate([np.repeat(incumbents, DRAWS, axis=0), *fresh])
    tops = climb(np.tile(single, (2, 1)), np.tile(pairs, (2, 1, 1)), starts, locked=locked)
    return tops[distinct(tops)[0]]


def expected_improvement(mean: Vector, deviation: Vector, best: float) -> Vector:
    """Expected amount by which a normal quantity exceeds ``best``, nothing if it does not.

    Args:
        mean: Means, ``(n,)``.
        deviation: Standard deviations, ``(n,)``.
        best: The best value known.
    """
    deviation = np.maximum(deviation, 1e-12)
    above = (mean - best) / deviation
    return deviation * (above * ndtr(above) + np.exp(-(above**2) / 2) / np.sqrt(2 * np.pi))


def _ranked(
    model: ProcessPredictor, ledger: Ledger, keeps: Sequence[int], locked: Indices
) -> list[Answer]:
    """Cut by the model's own contributions around each size's best coalition."""
    # The process speaks of the neighbourhood of the best, and is asked there.
    answers = []
    for keep in keeps:
        around = neighbours(ledger.best(keep)[0], locked=locked)
        if len(around):
            contributions = model.marginals(around).mean(axis=0)
            coalition = cut_lowest(contributions, keep, locked=locked)
            answers.append(Answer("ranked", coalition, float(ledger.value(coalition[None])[0])))
    return answers
