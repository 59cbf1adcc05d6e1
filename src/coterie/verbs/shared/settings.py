"""From what was asked to the settings of a study, and the refusals that need no weights."""

import numpy as np

from coterie.errors import CutError
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.game.search.guided import front_sizes
from coterie.game.search.methods import SEARCH_METHODS
from coterie.game.search.task import SearchTask
from coterie.game.study import STREAM
from coterie.game.study_design import Settings, settings_of
from coterie.models.cutting.blocks import check_saved_type
from coterie.models.cutting.structure import meta_model
from coterie.models.files.sources import Source
from coterie.models.loaded.blocks import gone_players
from coterie.models.loaded.stack import find_stack
from coterie.models.runtimes.block_rules import block_locks
from coterie.players import BLOCKS, Kind, label, of_blocks
from coterie.verbs.shared.request import Request


def sketch(request: Request, source: Source) -> tuple[int, tuple[int, ...]]:
    """Number of players, and those that stay, from the config alone.

    A locked layer, by its family or by the user, is locked with all its blocks. That the layers are
    built of such blocks is checked on the loaded model: it takes numbers to see it.

    Raises:
        CutError: a layer to lock that is not there.
    """
    # On the meta device: the structure is known without a weight.
    stack = find_stack(meta_model(source.config(), trust_remote_code=source.trust_remote_code))
    for layer in request.lock:
        if not 0 <= layer < stack.n_players:
            raise CutError(
                f"--lock {layer} is no layer: the model has layers 0 to {stack.n_players - 1}"
            )
    # One player a layer, or as many as the kind has blocks.
    kind = request.player_kind()
    locked = {*of_blocks([*stack.locks, *request.lock], kind)}
    locked |= locked_blocks(request, source, stack.n_players, kind)
    return stack.n_players * (len(BLOCKS[kind]) or 1), tuple(sorted(locked))


def locked_blocks(request: Request, source: Source, n_layers: int, kind: Kind) -> set[int]:
    """Blocks that stay because a runtime asks for them, and those that have gone already.

    Args:
        request: Names the runtimes, if any.
        source: The files of the model, which may lack blocks already; these cannot be cut again.
        n_layers: Layers of the model.
        kind: What a player is.
    """
    gone = {*gone_players(source.config().to_dict(), kind, n_layers)}
    if not request.serve or kind == "layer":
        return gone
    stay = block_locks(request.serve, n_layers)
    n_players = n_layers * len(BLOCKS[kind])
    return gone | {player for player in range(n_players) if label(kind, player) in stay}


def check_savable(
    request: Request, source: Source, n_players: int, locked: tuple[int, ...]
) -> None:
    """Refuse a cut of blocks that could not be saved afterwards.

    Args:
        request: Says how many players go, and what a player is.
        source: The files of the model: the family decides what can be saved.
        n_players: Players of the model.
        locked: Players that stay.

    Raises:
        ModelError: the family has no format for layers that lack blocks.
        CutError: so much would go that no attention block need be left.
    """
    if request.player_kind() == "layer":
        return
    # Before any text is read: the family may have no format for such a layer.
    check_saved_type(source.raw_config(), source.name)
    if request.target is not None:
        return
    n_layers, removed = n_players // 2, request.players_to_remove(n_players, locked)
    # With whole layers locked, an attention block is.
    if request.players == "sublayer" and removed >= n_layers and not locked:
        raise CutError(
            f"the {removed} of {n_players} blocks to go could be every attention block, and a model"
            f" keeps one: remove at most {n_layers - 1}, or name a layer that stays: --lock 0"
        )


def task_of(
    request: Request, n_players: int, locked: tuple[int, ...], keeps: tuple[int, ...]
) -> SearchTask:
    """What a search method is asked by a request, before any text is read.

    Args:
        request: Decides budget, time, seed and surrogate.
        n_players: Players of the model.
        locked: Players that stay.
        keeps: Sizes to choose a coalition of.
    """
    return SearchTask(
        n_players,
        keeps,
        tuple(locked),
        budget=request.budget,
        seconds=request.time,
        seed=request.seed,
        surrogate=request.surrogate,
    )


def settings_for(
    request: Request, n_players: int, locked: tuple[int, ...], keep: int | None
) -> Settings:
    """The settings of a study that a request asks for.

    Args:
        request: Decides budget, time, seed and surrogate.
        n_players: Players of the model.
        locked: Players that stay.
        keep: Size at which the surrogate is checked; None where nothing is to be cut.
    """
    # One size or none: a study checks its surrogate there.
    keeps = () if keep is None else (keep,)
    return settings_of(task_of(request, n_players, locked, keeps))


def size_asked(request: Request, n_players: int, locked: tuple[int, ...]) -> int | None:
    """How many players the cut model will have; None where nothing is to be cut.

    Args:
        request: Says how much goes, if anything.
        n_players: Players of the model.
        locked: Players that stay.

    Raises:
        CutError: more than the unlocked players would go, or none.
    """
    if not request.says_how_much() or request.target is not None:
        return None
    return n_players - request.players_to_remove(n_players, locked)


def generator(request: Request) -> np.random.Generator:
    """The generator of the study, always in the same state for the same seed."""
    # A stream of its own: draws for texts never move those for coalitions.
    return np.random.default_rng([request.seed, STREAM])


def check_feasible(request: Request, n_players: int, locked: tuple[int, ...]) -> None:
    """Draw the design once and throw it away: what cannot be drawn is refused before loading.

    Args:
        request: Names the method, the sizes and the budget.
        n_players: Players of the model.
        locked: Players that stay.

    Raises:
        CutError: too many players to cut, too small a budget, too few players to choose from.
    """
    keep = size_asked(request, n_players, locked)
    method = SEARCH_METHODS[request.plays()]
    keeps: tuple[int, ...] = () if keep is None else (keep,)
    # A dry draw: a design that cannot be drawn fails here, before the model loads.
    if method.ranks:
        if ESTIMATORS[request.estimator].by_study:
            method.known_beforehand(task_of(request, n_players, locked, keeps))
        return
    # Nothing to cut: the front, that is every size worth searching.
    keeps = keeps or tuple(front_sizes(n_players, locked=np.array(locked, dtype=np.intp)))
    if not keeps:
        raise CutError(
            f"{len(locked)} of {n_players} players are locked, so no size is left to search: lock"
            " fewer"
        )
    least = method.least(task_of(request, n_players, locked, keeps))
    # A target's budget is checked as sizes become known.
    if request.target is None and request.budget is not None and request.budget < least:
        raise CutError(
            f"--budget {request.budget} is too small for --method {method.name}, which asks up to "
            f"{least} coalitions before it may stop: give at least that"
        )
