"""From what was asked to the settings of a study, and the refusals that need no weights."""

from dataclasses import replace

import numpy as np

from coterie.pipeline.request import Request
from coterie.study import Settings, checked


def settings_for(
    request: Request, n_players: int, locked: tuple[int, ...], keep: int | None
) -> Settings:
    """The settings of this request on a model of so many layers."""
    return replace(
        Settings.published(n_players, locked),
        budget=request.budget,
        seconds=request.time,
        keep=keep,
        seed=request.seed,
    )


def size_asked(request: Request, n_players: int, locked: tuple[int, ...]) -> int | None:
    """How many layers the cut model will have; None where nothing is to be cut.

    Raises:
        CutError: more than the unlocked layers would go, or none.
    """
    if not request.says_how_much():
        return None
    return n_players - request.players_to_remove(n_players, locked)


def generator(request: Request) -> np.random.Generator:
    """The generator of the study, always in the same state for the same seed."""
    return np.random.default_rng([request.seed, 2])


def check_feasible(request: Request, n_players: int, locked: tuple[int, ...]) -> None:
    """Draw the design once and throw it away: what cannot be drawn is refused before loading.

    Raises:
        CutError: too many layers to cut, too small a budget, too few layers to choose from.
    """
    keep = size_asked(request, n_players, locked)
    checked(settings_for(request, n_players, locked, keep), n_players, generator(request))
