"""From what was asked to the settings of a study, and the refusals that need no weights."""

import json
from dataclasses import replace

import numpy as np

from coterie.errors import CutError
from coterie.game.search import front_sizes, plain_cost
from coterie.game.study import Settings, checked
from coterie.models.cutting.blocks import check_saved_type
from coterie.models.cutting.structure import meta_model
from coterie.models.files.sources import Source
from coterie.models.loaded.stack import find_stack
from coterie.players import BLOCKS
from coterie.verbs.shared.request import Request


def sketch(request: Request, source: Source) -> tuple[int, tuple[int, ...]]:
    """Number of players, and those that stay, from the config alone.

    A locked layer, by its family or by the user, is locked with all its blocks. That the layers are
    built of such blocks is checked on the loaded model: it takes numbers to see it.

    Raises:
        CutError: a layer to lock that is not there.
    """
    stack = find_stack(meta_model(source.config(), trust_remote_code=source.trust_remote_code))
    for layer in request.lock:
        if not 0 <= layer < stack.n_players:
            raise CutError(
                f"--lock {layer} is no layer: the model has layers 0 to {stack.n_players - 1}"
            )
    width = len(BLOCKS[request.player_kind()]) or 1
    layers = sorted({*stack.locks, *request.lock})
    locked = (layer * width + place for layer in layers for place in range(width))
    return stack.n_players * width, tuple(locked)


def check_savable(
    request: Request, source: Source, n_players: int, locked: tuple[int, ...]
) -> None:
    """Refuse a cut of blocks that could not be saved afterwards.

    Raises:
        ModelError: the family has no format for layers that lack blocks.
        CutError: so much would go that no attention block need be left.
    """
    if request.players == "layer":
        return
    raw = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    check_saved_type(raw, source.name)
    if request.target is not None:
        return
    n_layers, removed = n_players // 2, request.players_to_remove(n_players, locked)
    # With whole layers locked, an attention block is.
    if request.players == "sublayer" and removed >= n_layers and not locked:
        raise CutError(
            f"the {removed} of {n_players} blocks to go could be every attention block, and a model"
            f" keeps one: remove at most {n_layers - 1}, or name a layer that stays: --lock 0"
        )


def settings_for(
    request: Request, n_players: int, locked: tuple[int, ...], keep: int | None
) -> Settings:
    """The settings of this request on a model of so many players."""
    return replace(
        Settings.published(n_players, locked),
        budget=request.budget,
        seconds=request.time,
        keep=keep,
        seed=request.seed,
        surrogate=request.surrogate,
    )


def size_asked(request: Request, n_players: int, locked: tuple[int, ...]) -> int | None:
    """How many players the cut model will have; None where nothing is to be cut.

    Raises:
        CutError: more than the unlocked players would go, or none.
    """
    if not request.says_how_much() or request.target is not None:
        return None
    return n_players - request.players_to_remove(n_players, locked)


def generator(request: Request) -> np.random.Generator:
    """The generator of the study, always in the same state for the same seed."""
    return np.random.default_rng([request.seed, 2])


def check_feasible(
    request: Request, n_players: int, locked: tuple[int, ...], *, cutting: bool
) -> None:
    """Draw the design once and throw it away: what cannot be drawn is refused before loading.

    Raises:
        CutError: too many players to cut, too small a budget, too few players to choose from.
    """
    keep = size_asked(request, n_players, locked)
    method = request.plays(cutting=cutting)
    if method == "paper":
        if request.estimator == "paper":
            checked(settings_for(request, n_players, locked, keep), n_players, generator(request))
        return
    keeps = list(front_sizes(n_players, locked=np.array(locked, dtype=np.intp)))
    keeps = keeps if keep is None else [keep]
    if not keeps:
        raise CutError(f"{n_players} players with {len(locked)} locked leave no front to look for")
    least = {
        "greedy": plain_cost(n_players, keeps, n_locked=len(locked)),
        "guided": plain_cost(n_players, keeps, n_locked=len(locked)),
        "one-shot": n_players - len(locked) + len(keeps),
        "contiguous": sum(keep + 1 for keep in keeps),
    }.get(method, 0)
    if request.target is None and request.budget is not None and request.budget < least:
        raise CutError(
            f"--budget {request.budget} is too small for --method {method}, which asks up to "
            f"{least} coalitions before it may stop: give at least that"
        )
