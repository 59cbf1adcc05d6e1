"""`prune --players layer+block`: single blocks are cut where they lose less than whole layers."""

from dataclasses import replace

import numpy as np

from coterie.errors import CutError, ModelError
from coterie.game.search.decide import Decision, by_size
from coterie.game.search.plain import Answer
from coterie.models.cutting.blocks import check_saved_type, saved_in_blocks
from coterie.models.loaded.blocks import find_players
from coterie.verbs.search.blocks import (
    BLOCKS,
    WHOLE,
    BlockChoice,
    choose_blocks,
    counted_together,
    of_whole_layers,
)
from coterie.verbs.search.deciding import decided
from coterie.verbs.search.result import Search, SearchResult, remarks_joined
from coterie.verbs.search.targets import Target
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.serving import check_blocks_served
from coterie.verbs.shared.workspace import Workspace

Chosen = tuple[Workspace, SearchResult, Target | None]
"""The workspace whose players are cut, the result in these players, and the target in them."""


def may_cut_blocks(layers: Workspace) -> bool:
    """Whether single blocks of an opened model can be cut, and the cut saved."""
    try:
        find_players(layers.model, "sublayer")
    except ModelError:
        return False
    return saved_in_blocks(layers.prepared.source)


def go_on_among_blocks(
    layers: Workspace,
    search: Search,
    found: SearchResult,
    target: Target | None,
    progress: Progress,
) -> Chosen:
    """What single blocks win, or what whole layers do: the latter are cut as an ordinary model.

    Args:
        layers: The opened model, its layers the players.
        search: The search of layers.
        found: What it found; it stands where a cut of blocks could not be saved.
        target: What must be met, if anything.
        progress: Told what is being done.
    """
    source = layers.prepared.source
    try:
        check_saved_type(source.raw_config(), source.name)
        check_blocks_served(layers.request, source)
        choice = choose_blocks(layers, search, found, target, progress)
    except (CutError, ModelError) as reason:
        remark = f"whole layers only: {reason}"
        progress.say(f"warning: {remark}")
        return layers, replace(found, remark=remarks_joined(found.remark, remark)), target
    (decision,) = choice.found.decisions
    if not of_whole_layers(decision.winner.coalition) and not within_error(decision):
        return choice.workspace, choice.found, choice.target
    return layers, _back_in_layers(layers, found, choice, progress), target


def within_error(decision: Decision) -> bool:
    """Whether blocks lose less than whole layers by no more than one standard error.

    A cut of whole layers loads in more places, so it stays where texts cannot tell the two apart.
    """
    layers = next(one for one in decision.standings if one.method == WHOLE)
    return layers.error is not None and layers.behind <= layers.error


def _back_in_layers(
    layers: Workspace, found: SearchResult, choice: BlockChoice, progress: Progress
) -> SearchResult:
    """The result in layers; blocks that make up other whole layers are decided on in layers too."""
    (decision,), rounds = choice.found.decisions, choice.rounds
    winner = decision.winner.coalition[::2]
    result, told = found, "none at no higher cost loses less"
    if not of_whole_layers(decision.winner.coalition):
        told = "the best loses less by no more than one standard error, so whole layers are cut"
    elif not np.array_equal(winner, found.best.winner.coalition):
        answer = Answer(BLOCKS, winner, float(found.ledger.value(winner[None])[0]))
        groups = by_size([*found.finalists, answer])
        again = decided(layers, found.played, found.ledger, groups, progress)
        result = replace(found, decisions=again.decisions, finalists=again.finalists)
    result = replace(
        result,
        remark=f"{rounds.told}: {told}",
        out_of_time=choice.found.out_of_time,
    )
    return counted_together(found, result, rounds)
