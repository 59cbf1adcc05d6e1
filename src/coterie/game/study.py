"""A study of any game: draw coalitions, observe them, estimate what each player contributes.

It knows no model and keeps no state: given the same game, settings and random generator it draws
the same coalitions, so a study stopped anywhere is resumed by running it again on a game that
remembers (`coterie.store.stored_game.StoredGame`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from coterie.game.coalitions import Coalition, Coalitions, Game, Indices, Observations, Vector
from coterie.game.designs import Stratum
from coterie.game.estimation.contributions import (
    Contributions,
    contributions,
)
from coterie.game.estimation.refits import Sample
from coterie.game.paper import evaluated
from coterie.game.search.plain import cut_lowest
from coterie.game.search.task import SearchTask, Step
from coterie.game.study_design import Settings, check_coalitions, design, settings_of
from coterie.game.surrogates import Surrogate
from coterie.game.surrogates.choice import most_faithful
from coterie.game.surrogates.ensemble import Ensemble
from coterie.game.surrogates.explained import ShapleyRegression
from coterie.game.surrogates.fidelity import FOLDS, Agreement, agreement
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.surrogates.watched import Watched
from coterie.game.utilities import UTILITIES, Utility, read

SURROGATES: dict[str, Surrogate] = {
    "pairwise": Pairwise(),
    "ensemble": Ensemble(Pairwise()),
    "explained": ShapleyRegression(),
}
"""Surrogates beside the paper's network, which is trained for as long as the design asks."""

STREAM = 2
"""Which stream of a seed a study draws from."""

_FIRST_LOOK = 64  # coalitions observed before the rate of a time limit is known


@dataclass(frozen=True, eq=False)
class Study:
    """What was drawn, seen and concluded."""

    settings: Settings
    strata: list[Stratum]
    full: Observations
    """The grand coalition, ``(1, n_sequences)``."""
    table: Observations
    """``(n_coalitions, n_sequences)``, rows in the order of the concatenated strata."""
    contributions: Contributions
    requested: Agreement | None
    """The surrogate against true values at the requested size; None if there is none."""
    not_finite: int
    """Observations that were not finite and were read as the floor."""
    seconds_observing: float
    seconds_estimating: float

    asked: Coalitions
    """Every coalition the study asked for: the grand one, the strata, the checks."""
    documents: Indices
    """The document of each sequence, ``(n_sequences,)``."""

    def keep(self, size: int) -> Coalition:
        """The coalition of this size that keeps the highest contributions."""
        locked = np.array(self.settings.locked, dtype=np.intp)
        return cut_lowest(self.contributions.estimate.values, size, locked=locked)


def run_study(
    game: Game,
    settings: Settings,
    documents: Indices,
    vocabulary: int,
    *,
    rng: np.random.Generator,
    step: Step,
) -> Study:
    """Observe, fit and estimate: the steps of `coterie.game.paper`, within bounds.

    Args:
        game: The game to study.
        settings: What to draw, within which bounds, and how to estimate.
        documents: Which document each sequence comes from, ``(n_sequences,)``.
        vocabulary: Tokens of the model's vocabulary; sets the floor of what is not finite.
        step: Called as each stage goes on.
        rng: Spawns one generator each for the design, the checks and the estimate.
    """
    for_design, for_checks, for_estimate, for_surrogate = rng.spawn(4)
    began = time.monotonic()
    # Step 1: the design within its bounds, and checks where no stratum has the requested size.
    checks = check_coalitions(settings, game.n_players, for_checks)
    if settings.seconds is not None:
        settings = _within_time(game, settings, for_design, len(checks), step)
    strata = design(settings, game.n_players, for_design, len(checks))
    # Step 2: everything is observed in one question, the full model first, the checks last.
    grand = np.ones((1, game.n_players), dtype=bool)
    asked = np.concatenate([grand, *(s.coalitions for s in strata), checks])
    everything, _ = watch(game, asked, step)
    seen = time.monotonic()
    n_seen = len(asked) - len(checks)
    utility, drawn = UTILITIES[settings.utility], everything[:n_seen]
    sample, not_finite = evaluated(strata, drawn, documents, utility, vocabulary=vocabulary)
    checked_values, more = _values(everything[n_seen:], utility, sample.full, vocabulary)
    # Steps 3 and 4: the surrogate, refitted for its errors, and what it says of every player.
    found = _estimated(settings, sample, step, [for_surrogate, for_estimate])
    return Study(
        settings,
        strata,
        full=everything[:1],
        table=everything[1:n_seen],
        contributions=found,
        requested=_requested(settings, found, checks, checked_values),
        not_finite=not_finite + more,
        seconds_observing=seen - began,
        seconds_estimating=time.monotonic() - seen,
        asked=asked,
        documents=documents,
    )


def _estimated(
    settings: Settings, sample: Sample, step: Step, rngs: Sequence[np.random.Generator]
) -> Contributions:
    """Contributions through the surrogate asked for; every fit is counted for whoever waits."""
    # Fits by text, by draw, by start, the fit itself, and the folds of the fidelity.
    fits = 2 * settings.replicates + max(2, settings.replicates // 3) + 1 + FOLDS
    count = partial(_at_most, step, fits)
    count(0)
    for_surrogate, for_estimate = rngs
    surrogate = Watched(_surrogate(settings, sample, for_surrogate), count)
    found = contributions(sample, surrogate, settings.plan, rng=for_estimate)
    count(fits)
    return found


def _requested(
    settings: Settings, found: Contributions, checks: Coalitions, values: Vector
) -> Agreement | None:
    """How well the surrogate knows the requested size: from the checks, or from its own stratum."""
    # Coalitions drawn for this; otherwise the folds of the stratum of that size.
    if len(checks):
        return agreement(values, found.predictor.predict(checks))
    return None if settings.keep is None else found.fidelity.by_size.get(settings.keep)


def _values(
    seen: Observations, utility: Utility, full: Vector, vocabulary: int
) -> tuple[Vector, int]:
    """Values of observed coalitions, and how many observations were not finite."""
    table, not_finite = read(seen, utility.quantity, vocabulary)
    return utility.values(table, full) if len(table) else np.zeros(0), not_finite


def study_for(game: Game, task: SearchTask) -> Study:
    """Run the study that a task asks for."""
    documents = np.arange(game.n_sequences) if task.documents is None else task.documents
    return run_study(
        game,
        settings_of(task),
        documents,
        task.vocabulary,
        rng=task.generator(STREAM),
        step=task.step,
    )


def watch(game: Game, coalitions: Coalitions, step: Step) -> tuple[Observations, float]:
    """Observe coalitions on every sequence, telling how many are known; repeats asked once.

    Args:
        game: The game to ask.
        coalitions: ``(n_coalitions, n_players)``.
        step: Called as coalitions are observed: how many, of how many.

    Returns the table ``(n_coalitions, n_sequences)``, and the seconds that observing it took when
    it was observed, now or in an earlier run.
    """
    distinct, inverse = np.unique(coalitions, axis=0, return_inverse=True)
    # A store answers what it knows, and the display counts that as done.
    sequences = np.arange(game.n_sequences)
    table = Observations.empty(len(distinct), len(sequences))
    done, total, seconds = 0, len(distinct) * len(sequences), 0.0
    step("observing coalitions", 0, len(distinct))
    for block in game.observe(distinct, sequences):
        table.put(block)
        done += block.observations.nll.size
        seconds += block.seconds
        step("observing coalitions", done * len(distinct) // total, len(distinct))
    return table[inverse.reshape(-1)], seconds


def _within_time(
    game: Game, settings: Settings, rng: np.random.Generator, n_checks: int, step: Step
) -> Settings:
    """Settings whose budget fits the time: look, measure the rate, ask for what fits, repeat.

    A larger budget keeps what a smaller one drew, so nothing observed on the way is wasted. Time is
    what the observations took when they were made, which a store keeps: a run that is resumed or
    repeated decides by the same facts.
    """
    # Look, measure, ask for what fits; ends where less than a tenth more would fit.
    limit = settings.seconds or 0.0
    most = 1 + n_checks + sum(len(s.coalitions) for s in design(settings, game.n_players, rng))
    budget = min(most, max(_FIRST_LOOK, 2 * len(settings.sizes) + 1) + n_checks)
    while True:
        tried = replace(settings, budget=budget)
        strata = design(tried, game.n_players, rng, n_checks)
        _, spent = watch(game, np.concatenate([s.coalitions for s in strata]), step)
        # A little below the limit: the rate of the next coalitions may be lower.
        affordable = min(most, int(budget * 0.95 * limit / max(spent, 1e-9)))
        if affordable < 1.1 * budget:
            return tried
        budget = min(affordable, 4 * budget)


def _surrogate(settings: Settings, sample: Sample, rng: np.random.Generator) -> Surrogate:
    """The surrogate asked for; of all, the most faithful at the size that matters."""
    coalitions, targets = sample.coalitions, sample.targets
    # As many steps as published, however few coalitions there are.
    network = PaperNetwork.as_long_as_published(len(coalitions), settings.draws)
    network = replace(network, trainer=settings.trainer)
    known: dict[str, Surrogate] = {"paper": network, **SURROGATES}
    if settings.surrogate != "auto":
        return known[settings.surrogate]
    # Nothing to cut: the smallest size is the hardest to predict.
    size = min(settings.sizes) if settings.keep is None else settings.keep
    return most_faithful(tuple(known.values()), coalitions, targets, size=size, rng=rng)[0]


def _at_most(step: Step, total: int, done: int) -> None:
    step("fitting surrogates", min(done, total), total)
