"""What a study draws: its settings, its strata, and the coalitions that check the surrogate."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from coterie.errors import CutError
from coterie.game.coalitions import Coalitions
from coterie.game.designs import Stratum, draw_distinct, draw_strata
from coterie.game.estimation.contributions import BASE_DRAWS, REPLICATES, SemivaluePlan
from coterie.game.published import paper_draws, published_sizes
from coterie.game.search.task import SearchTask
from coterie.game.surrogates.training import Trainer, trained
from coterie.plain import Json

CHECKS = 64
"""Coalitions of the requested size drawn only to check the surrogate, where no stratum has it."""


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
    replicates: int = REPLICATES
    seed: int = 0
    surrogate: str = "paper"
    """A name of `SURROGATES`, or ``"auto"``: whichever has the highest held-out fidelity."""
    trainer: Trainer = field(default=trained, compare=False, repr=False)
    """Where the paper's network is trained; it changes nothing but rounding."""

    @classmethod
    def published(cls, n_players: int, locked: Sequence[int] = ()) -> "Settings":
        """The paper's sizes and draws (arXiv:2602.07804) scaled to this many players.

        Sizes that the locks make impossible are left out; at least one remains.
        """
        # Sizes that only hold locked players drop out here.
        sizes = published_sizes(n_players, len(locked))
        return cls(sizes, paper_draws(n_players), tuple(locked))

    @property
    def plan(self) -> SemivaluePlan:
        """How contributions are estimated from what was observed."""
        # Arrays are made here: settings stay hashable and plain.
        locked = np.array(self.locked, dtype=np.intp)
        return SemivaluePlan(self.sizes, locked, self.base_draws, self.replicates)

    def as_json(self) -> dict[str, Json]:
        """The settings as plain JSON."""
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.compare}
        return {**told, "sizes": list(self.sizes), "locked": list(self.locked)}


def settings_of(task: SearchTask) -> Settings:
    """The published settings within the bounds of a task; a single size is checked for fidelity."""
    # One size is checked; a front of many is not checked size by size.
    return replace(
        Settings.published(task.n_players, task.locked),
        budget=task.budget,
        seconds=task.seconds,
        keep=task.keeps[0] if len(task.keeps) == 1 else None,
        seed=task.seed,
        surrogate=task.surrogate,
        trainer=task.trainer,
    )


def design(
    settings: Settings, n_players: int, rng: np.random.Generator, n_checks: int = 0
) -> list[Stratum]:
    """The strata of these settings; `rng` is copied, so the same one gives the same strata.

    Args:
        settings: Sizes, draws, locked players and budget.
        n_players: Players of the game.
        rng: Draws the strata.
        n_checks: Coalitions of the budget that are set aside to check the surrogate.

    Raises:
        CutError: The budget is too small for the strata.
    """
    # The full model and the checks come out of the budget first.
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
    """Every distinct coalition the study will ask for, ``(n_coalitions, n_players)``.

    Args:
        settings: What to draw.
        n_players: Players of the game.
        rng: In the state in which `run_study` would be given it.
    """
    # The first two children are those of run_study, so the very same coalitions come out.
    for_design, for_checks, _ = rng.spawn(3)
    checks = check_coalitions(settings, n_players, for_checks)
    strata = design(settings, n_players, for_design, len(checks))
    grand = np.ones((1, n_players), dtype=bool)
    asked = np.concatenate([grand, *(s.coalitions for s in strata), checks])
    return np.unique(asked, axis=0)


def check_coalitions(settings: Settings, n_players: int, rng: np.random.Generator) -> Coalitions:
    """Coalitions of the requested size for the check alone, if no stratum has that size.

    Args:
        settings: The requested size, and the sizes of the strata.
        n_players: Players of the game.
        rng: Draws them.
    """
    if settings.keep is None or settings.keep in settings.sizes or settings.keep >= n_players:
        return np.zeros((0, n_players), dtype=bool)
    # An eighth of a budget at most: checks must not starve the study.
    most = CHECKS if settings.budget is None else min(CHECKS, settings.budget // 8)
    locked = np.array(settings.locked, dtype=np.intp)
    return draw_distinct(n_players, settings.keep, max(3, most), locked=locked, rng=rng).coalitions


def _copy(rng: np.random.Generator) -> np.random.Generator:
    # Draws from a copy leave the generator where it was.
    copied = np.random.default_rng()
    copied.bit_generator.state = rng.bit_generator.state
    return copied
