"""A study of any game: draw coalitions, observe them, estimate what each player contributes.

It knows no model and keeps no state: given the same game, settings and random generator it draws
the same coalitions, so a study stopped anywhere is resumed by running it again on a game that
remembers (`coterie.store.stored_game.StoredGame`).
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from coterie.errors import CutError
from coterie.game.coalitions import Coalition, Coalitions, Game, Indices, Observations, Vector
from coterie.game.designs import Stratum, draw_distinct, draw_strata, paper_draws, published_sizes
from coterie.game.estimation.contributions import BASE_DRAWS, Contributions, contributions
from coterie.game.search.plain import cut_lowest
from coterie.game.search.task import SearchTask, Step
from coterie.game.surrogates import Surrogate
from coterie.game.surrogates.choice import most_faithful
from coterie.game.surrogates.ensemble import Ensemble
from coterie.game.surrogates.explained import ShapleyRegression
from coterie.game.surrogates.fidelity import FOLDS, Agreement, agreement
from coterie.game.surrogates.pairwise import Pairwise
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.surrogates.watched import Watched
from coterie.game.utilities import UTILITIES, read
from coterie.plain import Json

CHECKS = 64
"""Coalitions of the requested size drawn only to check the surrogate, where no stratum has it."""

SURROGATES: dict[str, Surrogate] = {
    "pairwise": Pairwise(),
    "ensemble": Ensemble(Pairwise()),
    "explained": ShapleyRegression(),
}
"""Surrogates beside the paper's network, which is trained for as long as the design asks."""

STREAM = 2
"""Which stream of a seed a study draws from."""

_FIRST_LOOK = 64  # coalitions observed before the rate of a time limit is known


@dataclass(frozen=True)
class Settings:
    """Everything that decides the answer, given the game and the seed."""

    sizes: tuple[int, ...]
    draws: int
    locked: tuple[int, ...] = ()
    budget: int | None = None
    """Most distinct coalitions observed in all, the full model and the checks included."""
    seconds: float | None = None
    """Most seconds spent observing; turned into a budget as the rate becomes known."""
    keep: int | None = None
    """The size the fidelity is asked at; None where nothing is to be cut."""
    utility: str = "ppl-ratio"
    base_draws: int = BASE_DRAWS
    replicates: int = 24
    seed: int = 0
    surrogate: str = "paper"
    """A name of `SURROGATES`, or ``"auto"``: whichever has the highest held-out fidelity."""

    @classmethod
    def published(cls, n_players: int, locked: Sequence[int] = ()) -> "Settings":
        """The paper's sizes and draws (arXiv:2602.07804) scaled to this many players.

        Sizes that the locks make impossible are left out; at least one remains.
        """
        sizes = published_sizes(n_players, len(locked))
        return cls(sizes, paper_draws(n_players), tuple(locked))

    def as_json(self) -> dict[str, Json]:
        """The settings as plain JSON."""
        return {**asdict(self), "sizes": list(self.sizes), "locked": list(self.locked)}


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
    """Observe the design, fit the surrogate, estimate every player's contribution.

    Args:
        documents: Which document each sequence comes from, ``(n_sequences,)``.
        vocabulary: Tokens of the model's vocabulary; sets the floor of what is not finite.
        rng: Spawns one generator each for the design, the checks and the estimate.
    """
    for_design, for_checks, for_estimate, for_surrogate = rng.spawn(4)
    began = time.monotonic()
    checks = _checks(settings, game.n_players, for_checks)
    if settings.seconds is not None:
        settings = _within_time(game, settings, for_design, len(checks), step)
    strata = design(settings, game.n_players, for_design, len(checks))
    grand = np.ones((1, game.n_players), dtype=bool)
    observed = [s.coalitions for s in strata]
    asked = np.concatenate([grand, *observed, checks])
    everything, _ = watch(game, asked, step)
    n_drawn = sum(map(len, observed))
    seen = time.monotonic()

    fits = 2 * settings.replicates + max(2, settings.replicates // 3) + 1 + FOLDS
    told = partial(_at_most, step, fits)
    told(0)
    utility = UTILITIES[settings.utility]
    finite, not_finite = read(everything, utility.quantity, vocabulary)
    full, table = finite[0], finite[1 : 1 + n_drawn]
    locked = np.array(settings.locked, dtype=np.intp)
    drawn = np.concatenate(observed)
    surrogate = _surrogate(settings, drawn, utility.values(table, full), for_surrogate)
    found = contributions(
        strata,
        table,
        full,
        documents,
        utility.formula,
        surrogate=Watched(surrogate, told),
        sizes=settings.sizes,
        locked=locked,
        base_draws=settings.base_draws,
        replicates=settings.replicates,
        rng=for_estimate,
    )
    requested: Agreement | None = None
    if len(checks):
        true = utility.values(finite[1 + n_drawn :], full)
        requested = agreement(true, found.predictor.predict(checks))
    elif settings.keep is not None:
        requested = found.fidelity.by_size.get(settings.keep)
    told(fits)
    return Study(
        settings,
        strata,
        everything[:1],
        everything[1 : 1 + n_drawn],
        found,
        requested,
        not_finite,
        seen - began,
        time.monotonic() - seen,
        asked,
    )


def settings_of(task: SearchTask) -> Settings:
    """The published settings within the bounds of a task; a single size is checked for fidelity."""
    return replace(
        Settings.published(task.n_players, task.locked),
        budget=task.budget,
        seconds=task.seconds,
        keep=task.keeps[0] if len(task.keeps) == 1 else None,
        seed=task.seed,
        surrogate=task.surrogate,
    )


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


def design(
    settings: Settings, n_players: int, rng: np.random.Generator, n_checks: int = 0
) -> list[Stratum]:
    """The strata of these settings; `rng` is copied, so the same one gives the same strata."""
    spare = None if settings.budget is None else settings.budget - 1 - n_checks
    if spare is not None and spare < 2 * len(settings.sizes):
        raise CutError(
            f"a budget of {settings.budget} coalitions is too small for {len(settings.sizes)} "
            f"strata: give at least {2 * len(settings.sizes) + 1 + n_checks}"
        )
    return draw_strata(
        n_players,
        settings.sizes,
        settings.draws,
        locked=np.array(settings.locked, dtype=np.intp),
        rng=_copy(rng),
        budget=spare,
    )


def checked(settings: Settings, n_players: int, rng: np.random.Generator) -> Coalitions:
    """Every distinct coalition the study will ask for, ``(n_coalitions, n_players)``."""
    for_design, for_checks, _ = rng.spawn(3)
    checks = _checks(settings, n_players, for_checks)
    strata = design(settings, n_players, for_design, len(checks))
    grand = np.ones((1, n_players), dtype=bool)
    asked = np.concatenate([grand, *(s.coalitions for s in strata), checks])
    return np.unique(asked, axis=0)


def watch(game: Game, coalitions: Coalitions, step: Step) -> tuple[Observations, float]:
    """Observe coalitions on every sequence, telling how many are known; repeats asked once.

    Returns the table ``(n_coalitions, n_sequences)``, and the seconds that observing it took when
    it was observed, now or in an earlier run.
    """
    distinct, inverse = np.unique(coalitions, axis=0, return_inverse=True)
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


def _checks(settings: Settings, n_players: int, rng: np.random.Generator) -> Coalitions:
    """Coalitions of the requested size for the check alone, if no stratum has that size."""
    if settings.keep is None or settings.keep in settings.sizes or settings.keep >= n_players:
        return np.zeros((0, n_players), dtype=bool)
    most = CHECKS if settings.budget is None else min(CHECKS, settings.budget // 8)
    locked = np.array(settings.locked, dtype=np.intp)
    return draw_distinct(n_players, settings.keep, max(3, most), locked=locked, rng=rng).coalitions


def _within_time(
    game: Game, settings: Settings, rng: np.random.Generator, n_checks: int, step: Step
) -> Settings:
    """Settings whose budget fits the time: look, measure the rate, ask for what fits, repeat.

    A larger budget keeps what a smaller one drew, so nothing observed on the way is wasted. Time is
    what the observations took when they were made, which a store keeps: a run that is resumed or
    repeated decides by the same facts.
    """
    limit = settings.seconds or 0.0
    most = 1 + n_checks + sum(len(s.coalitions) for s in design(settings, game.n_players, rng))
    budget = min(most, max(_FIRST_LOOK, 2 * len(settings.sizes) + 1) + n_checks)
    while True:
        tried = replace(settings, budget=budget)
        strata = design(tried, game.n_players, rng, n_checks)
        _, spent = watch(game, np.concatenate([s.coalitions for s in strata]), step)
        affordable = min(most, int(budget * 0.95 * limit / max(spent, 1e-9)))
        if affordable < 1.1 * budget:
            return tried
        budget = min(affordable, 4 * budget)


def _surrogate(
    settings: Settings, coalitions: Coalitions, targets: Vector, rng: np.random.Generator
) -> Surrogate:
    """The surrogate asked for; of all, the most faithful at the size that matters."""
    network = PaperNetwork.as_long_as_published(len(coalitions), settings.draws)
    known: dict[str, Surrogate] = {"paper": network, **SURROGATES}
    if settings.surrogate != "auto":
        return known[settings.surrogate]
    size = min(settings.sizes) if settings.keep is None else settings.keep
    return most_faithful(tuple(known.values()), coalitions, targets, size=size, rng=rng)[0]


def _at_most(step: Step, total: int, done: int) -> None:
    step("fitting surrogates", min(done, total), total)


def _copy(rng: np.random.Generator) -> np.random.Generator:
    copied = np.random.default_rng()
    copied.bit_generator.state = rng.bit_generator.state
    return copied
